"""Write any source's adapters to files: one PEFT folder per document, or one compact file for all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from override_gap.margins.adapter import Adapter, AdapterSource, traits_of
from override_gap.margins.items.item import Document
from override_gap.probes.attach.stack import check
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.compact_index import write_compact
from override_gap.probes.sources.custom import encode_updates
from override_gap.probes.sources.peft_folder import INDEX
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.model import Subject

FORMS = ("peft", "compact")


def export(subject: Subject, source: AdapterSource, documents: Sequence[Document], form: str, out: Path) -> int:
    """Encode the documents and write their adapters to `out`, which must not exist yet; returns how many.

    Both forms hold the base's fingerprint and every document's key, ids, points and adapter hash: a compact file in its
    metadata, a folder of PEFT folders in `override_gap.json` beside them. Raises AdapterError for adapters that do not fit the
    subject or that the form cannot hold; then nothing is written at `out`.
    """
    if form not in FORMS:
        raise AdapterError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if out.exists():
        raise AdapterError(
            f"{out} exists; name a new {'folder' if form == 'peft' else 'file'}, so that old and new adapters do not mix"
        )
    if not documents:
        raise AdapterError("the items have no documents, so there are no adapters to export")
    adapters = encode_updates(source, documents)
    for adapter in adapters:
        check(subject, [adapter])
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.part")
    if partial.exists():
        raise AdapterError(f"{partial} is left over from an export that was stopped; remove it")
    try:
        if form == "compact":
            about = {"method": source.name, "base_fingerprint": subject.fingerprint}
            write_compact(partial, documents, adapters, **about, reads_questions=traits_of(source).reads_questions)
        else:
            _write_folders(subject, source, documents, adapters, partial)
        partial.rename(out)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)
    return len(adapters)


def _write_folders(
    subject: Subject, source: AdapterSource, documents: Sequence[Document], adapters: Sequence[Adapter], out: Path
) -> None:
    for document, adapter in zip(documents, adapters, strict=True):
        write_adapter(adapter, out / document.key, subject.name, subject.sites)
    index = {
        "method": source.name,
        "base_fingerprint": subject.fingerprint,
        "documents": [
            {"key": d.key, "ids": list(d.ids), "points": list(d.points), "sha256": a.hash()}
            for d, a in zip(documents, adapters, strict=True)
        ],
    }
    (out / INDEX).write_text(json.dumps(index, indent=1))
