"""Encoding: a unit's documents as adapters, with those on which the source fails kept apart from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from override_gap.margins.adapter import AdapterSource, AnyAdapter, traits_of
from override_gap.margins.conditions import Condition, reword
from override_gap.margins.items.item import Document
from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.readings.batching import out_of_memory, release_memory
from override_gap.probes.run.null_adapters import NullAdapters
from override_gap.probes.sources.custom import encode_checked


@dataclass(frozen=True)
class EncodedDocuments:
    """Adapters by the text of which they were made, and the reason for each text of which none could be made."""

    adapters: Mapping[str, AnyAdapter] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    nulls: NullAdapters | None = None
    """What the null conditions are read under, where there are any."""

    def __or__(self, other: EncodedDocuments) -> EncodedDocuments:
        adapters, broken = {**self.adapters, **other.adapters}, {**self.broken, **other.broken}
        return EncodedDocuments(adapters, broken, self.nulls or other.nulls)


def encode(source: AdapterSource, documents: Sequence[Document]) -> EncodedDocuments:
    """All documents at once; where the source raises or memory runs out, each half by itself, down to single documents.

    A source whose adapters depend on the whole batch is not asked for a part of it: then the whole batch is broken.
    """
    if not documents:
        return EncodedDocuments()
    try:
        adapters = encode_checked(source, documents)
    except AdapterChanged:
        raise  # of no document alone: what was measured and what would be are of different adapters
    except AdapterError as fault:
        ran_out = out_of_memory(fault)
        reason = "memory ran out while its adapter was made" if ran_out else str(fault)
    else:
        return EncodedDocuments({d.text: adapter for d, adapter in zip(documents, adapters, strict=True)})
    if ran_out:
        release_memory()  # it takes long in a large process, so not for each document that has no adapter
    if len(documents) == 1 or traits_of(source).scope == "batch":
        return EncodedDocuments({}, {document.text: reason for document in documents})
    middle = len(documents) // 2
    return encode(source, documents[:middle]) | encode(source, documents[middle:])


def encode_reworded(
    source: AdapterSource, documents: Sequence[Document], conditions: Sequence[Condition]
) -> EncodedDocuments:
    """Adapters of the documents in the conditions' wordings, by the text of which they are made.

    A reworded text has no ids and no points: an adapter filed under these is of the document as it stands. Raises
    AdapterError for a source with one adapter for all documents, which has none for a wording.
    """
    wordings: dict[str, str] = {}
    for condition in conditions:
        for wording in condition.wordings:
            wordings.setdefault(wording, condition.name)
    if wordings and traits_of(source).scope == "nothing":
        raise AdapterError(
            f"source {source.name}: one adapter serves every document, so none can be made for "
            f"{next(iter(wordings.values()))}; leave joined, stated and hedged out of --probes and --policies"
        )
    reworded = {
        text: replace(document, text=text, ids=(), points=())
        for wording in wordings
        for document in documents
        if (text := reword(wording, document.text)) != document.text
    }
    return encode(source, tuple(reworded.values()))
