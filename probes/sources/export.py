"""Write any source's adapters to files: one PEFT folder per document, or one compact file for all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from override_gap.margins.adapter import Adapter, AdapterSource, traits_of
from override_gap.margins.at_gains import at_gains
from override_gap.margins.gain_policies import Uniform, looks_at_question
from override_gap.margins.items.item import Document
from override_gap.margins.named_policy import NamedPolicy
from override_gap.margins.text import plural
from override_gap.margins.whole_files import WriteError, make_folder, whole_folder, write_bytes, write_text
from override_gap.probes.attach.stack import check
from override_gap.probes.environment import current_folder_last
from override_gap.probes.errors import AdapterError, as_adapter_error
from override_gap.probes.sources.adapter_tree import WEIGHTS
from override_gap.probes.sources.compact_index import GainsOf, write_compact
from override_gap.probes.sources.custom import at_the_last, encode_updates
from override_gap.probes.sources.peft_folder import INDEX, PeftFolder
from override_gap.probes.sources.peft_gains import NotInPlace, with_gains
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.model import Subject

FORMS = ("peft", "compact")
#: So many documents are encoded and held at once.
AT_ONCE = 32
NATIVE_DOCUMENTS = 2


def export(
    subject: Subject,
    source: AdapterSource,
    documents: Sequence[Document],
    form: str,
    out: Path,
    policy: NamedPolicy | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Encode the documents and write their adapters to `out`, which must not exist yet; returns how many.

    Both forms hold the base's fingerprint and every document's key, ids, points and adapter hash: a compact file in its
    metadata, a folder of PEFT folders in `override_gap.json` beside them. The adapters of AT_ONCE documents are held at a time.
    With a `policy` they are written at its gains, which both forms name, and without native logits: those would be of the
    method as delivered. `seed` is that of the audit, for policies that draw layers at random; `say` hears what became of factors.
    Raises AdapterError for adapters that do not fit the subject or that the form cannot hold, and for a policy that looks at the
    question, WriteError where the disk does not take them; then nothing is written at `out`.
    """
    if form not in FORMS:
        raise AdapterError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if out.exists():
        raise AdapterError(
            f"{out} exists; name a new {'folder' if form == 'peft' else 'file'}, so that old and new adapters do not mix"
        )
    if not documents:
        raise AdapterError("the items have no documents, so there are no adapters to export")
    if policy is not None:
        require_static(policy)
    gains_of = None if policy is None else partial(_gains_of, subject, policy, seed)
    make_folder(out.parent)
    adapters = _encoded(subject, source, documents)
    if form == "compact":
        try:
            about = {"method": source.name, "base_fingerprint": subject.fingerprint}
            native = () if policy is not None else _native_logits(subject, source, documents)
            reads_questions = traits_of(source).reads_questions
            named = {} if policy is None else {"policy": policy.title, "gains_of": gains_of}
            write_compact(out, documents, adapters, **about, reads_questions=reads_questions, native=native, **named)
        except AdapterError:
            raise
        except ValueError as fault:
            raise AdapterError(str(fault)) from fault
        except WriteError:
            raise
        except OSError as fault:
            if fault.errno is None:  # the kit's writer, which stands alone, has said all of it
                raise
            raise WriteError(fault.errno, fault.strerror, str(out)) from fault
        if policy is not None:
            say("factors as they were, each scale multiplied by its layer's gain; matrices and vectors hold the gain")
        return len(documents)
    with whole_folder(out) as unfinished:
        notes = _write_folders(subject, source, documents, adapters, unfinished, policy, gains_of)
    for note in notes:
        say(note)
    return len(documents)


def gains_copy(policy: NamedPolicy, form: str, out: Path) -> Path | None:
    """Copy the gains.json that was applied: into the folder, or beside the compact file; None where there is none."""
    if policy.file is None:
        return None
    copy = (
        out / "gains.json" if form == "peft" else out.with_name(f"{out.name.removesuffix('.safetensors')}.gains.json")
    )
    return write_bytes(copy, policy.file.read_bytes())


def require_static(policy: NamedPolicy) -> None:
    """Raise AdapterError for a policy whose gains cannot be written into files: one that looks at the question, or the base."""
    if looks_at_question(policy.policy):
        raise AdapterError(
            f"{policy.title} looks at the question, so its gains cannot be written into adapters; run the model under "
            "og.applied(model, adapters, policy) instead"
        )
    if policy.policy == Uniform(0.0):
        raise AdapterError(f"{policy.title} is the base without an adapter, so there is nothing to write")


def _gains_of(
    subject: Subject, policy: NamedPolicy, seed: int, document: Document, adapter: Adapter
) -> tuple[float, ...]:
    try:
        return policy.gains(adapter, subject.n_layers, document.text, seed)
    except ValueError as fault:
        raise AdapterError(str(fault)) from fault


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
    subject: Subject,
    source: AdapterSource,
    documents: Sequence[Document],
    adapters: Iterable[Adapter],
    out: Path,
    policy: NamedPolicy | None,
    gains_of: GainsOf | None,
) -> tuple[str, ...]:
    entries, notes = [], Counter[str]()
    for document, adapter in zip(documents, adapters, strict=True):
        ids, points = list(document.ids), list(document.points)
        entry: dict[str, Any] = {"key": document.key, "ids": ids, "points": points}
        folder = out / document.key
        if gains_of is None:
            write_adapter(adapter, folder, subject.name, subject.sites)
            entries.append({**entry, "sha256": adapter.hash()})
            continue
        gains = gains_of(document, adapter)
        notes[_write_at_gains(subject, source, document, adapter, folder, gains)] += 1
        entries.append({**entry, "sha256": at_gains(adapter, gains).hash(), "gains": list(gains)})
    index = {"method": source.name, "base_fingerprint": subject.fingerprint, "documents": entries}
    if policy is not None:
        index["policy"] = policy.title
    write_text(out / INDEX, json.dumps(index, indent=1))
    return tuple(f"{plural(count, 'adapter')}: {note}" for note, count in notes.items())


def _write_at_gains(
    subject: Subject,
    source: AdapterSource,
    document: Document,
    adapter: Adapter,
    folder: Path,
    gains: tuple[float, ...],
) -> str:
    """Write a document's adapter as a PEFT folder at these gains; returns what was done to it, in words."""
    why = "the source is no folder of PEFT adapters"
    if isinstance(source, PeftFolder) and source.scaled:
        place, contents = source.files(document)
        try:
            files = with_gains(place, subject, contents, gains)
            for name, content in files.items():
                write_bytes(make_folder(folder) / name, content)
            if files[WEIGHTS] == contents[WEIGHTS]:
                return "the file of weights as it was, lora_alpha and alpha_pattern changed"
            return "what lora_alpha does not scale (DoRA, parameters stored whole) computed anew"
        except NotInPlace as fault:
            why = str(fault)
    write_adapter(adapter, folder, subject.name, subject.sites, gains)
    return f"written as plain LoRA, the method's scale folded into lora_B and the gain in lora_alpha, since {why}"
