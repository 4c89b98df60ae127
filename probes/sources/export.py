"""Write any source's adapters to files: one PEFT folder per document, or one compact file for all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from override_gap.margins.adapter import Adapter, AdapterSource, traits_of
from override_gap.margins.items.item import Document
from override_gap.probes.attach.stack import check
from override_gap.probes.environment import current_folder_last
from override_gap.probes.errors import AdapterError, as_adapter_error
from override_gap.probes.sources.compact_index import write_compact
from override_gap.probes.sources.custom import at_the_last, encode_updates
from override_gap.probes.sources.peft_folder import INDEX
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.model import Subject

FORMS = ("peft", "compact")
#: So many documents are encoded and held at once.
AT_ONCE = 32
NATIVE_DOCUMENTS = 2


def export(subject: Subject, source: AdapterSource, documents: Sequence[Document], form: str, out: Path) -> int:
    """Encode the documents and write their adapters to `out`, which must not exist yet; returns how many.

    Both forms hold the base's fingerprint and every document's key, ids, points and adapter hash: a compact file in its
    metadata, a folder of PEFT folders in `override_gap.json` beside them. The adapters of AT_ONCE documents are held at a time.
    Raises AdapterError for adapters that do not fit the subject or that the form cannot hold; then nothing is written at `out`.
    """
    if form not in FORMS:
        raise AdapterError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if out.exists():
        raise AdapterError(
            f"{out} exists; name a new {'folder' if form == 'peft' else 'file'}, so that old and new adapters do not mix"
        )
    if not documents:
        raise AdapterError("the items have no documents, so there are no adapters to export")
    out.parent.mkdir(parents=True, exist_ok=True)
    adapters = _encoded(subject, source, documents)
    if form == "compact":
        try:
            about = {"method": source.name, "base_fingerprint": subject.fingerprint}
            native = _native_logits(subject, source, documents)
            reads_questions = traits_of(source).reads_questions
            write_compact(out, documents, adapters, **about, reads_questions=reads_questions, native=native)
        except AdapterError:
            raise
        except ValueError as fault:
            raise AdapterError(str(fault)) from fault
        return len(documents)
    partial = out.with_name(f".{out.name}.part")
    if partial.exists():
        raise AdapterError(f"{partial} is left over from an export that was stopped; remove it")
    try:
        _write_folders(subject, source, documents, adapters, partial)
        partial.rename(out)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
    return len(documents)


def _encoded(subject: Subject, source: AdapterSource, documents: Sequence[Document]) -> Iterator[Adapter]:
    """The documents' adapters, checked, some at a time; all at once where they depend on the whole batch."""
    step = len(documents) if traits_of(source).scope == "batch" else AT_ONCE
    for first in range(0, len(documents), step):
        for adapter in encode_updates(source, documents[first : first + step]):
            check(subject, [adapter])
            yield adapter


def _native_logits(
    subject: Subject, source: AdapterSource, documents: Sequence[Document]
) -> Iterator[tuple[str, str, list[int], Tensor]]:
    """The live logits of the method's own model on a question of the first documents, where the source has any."""
    logits = traits_of(source).native_logits
    if logits is None:
        return
    asked = [(d, q.prompt) for d in documents for q in [q for q in d.questions if not q.chat][:1]]
    for document, text in asked[:NATIVE_DOCUMENTS]:
        with as_adapter_error(f"source {source.name}: native_logits failed"), current_folder_last():
            found = logits(document, text)
        yield document.key, text, subject.tokenize(text), at_the_last(source, found)


def _write_folders(
    subject: Subject, source: AdapterSource, documents: Sequence[Document], adapters: Iterable[Adapter], out: Path
) -> None:
    entries = []
    for document, adapter in zip(documents, adapters, strict=True):
        write_adapter(adapter, out / document.key, subject.name, subject.sites)
        ids, points = list(document.ids), list(document.points)
        entries.append({"key": document.key, "ids": ids, "points": points, "sha256": adapter.hash()})
    index = {"method": source.name, "base_fingerprint": subject.fingerprint, "documents": entries}
    (out / INDEX).write_text(json.dumps(index, indent=1))
