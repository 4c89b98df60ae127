"""Encode: a unit's documents as adapters, one that the source fails on apart from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from override_gap.margins.adapter import AdapterSource, AnyAdapter, traits_of
from override_gap.margins.conditions import Condition
from override_gap.margins.items.item import Document
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.batching import out_of_memory, release_memory
from override_gap.probes.sources.custom import encode_checked


@dataclass(frozen=True)
class EncodedDocuments:
    """Adapters by the text they were made of, and for a text of which none could be made the reason."""

    adapters: Mapping[str, AnyAdapter] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: EncodedDocuments) -> EncodedDocuments:
        return EncodedDocuments({**self.adapters, **other.adapters}, {**self.broken, **other.broken})


def encode(source: AdapterSource, documents: Sequence[Document]) -> EncodedDocuments:
    """All documents at once; where the source raises, or memory runs out, each half for itself, down to the document.

    A source whose adapters depend on the whole batch is not asked for a part of it: all of the batch is broken.
    """
    if not documents:
        return EncodedDocuments()
    try:
        made = encode_checked(source, documents)
    except AdapterError as fault:
        reason = "memory ran out while its adapter was made" if out_of_memory(fault) else str(fault)
    else:
        return EncodedDocuments({d.text: adapter for d, adapter in zip(documents, made, strict=True)})
    release_memory()
    if len(documents) == 1 or traits_of(source).scope == "batch":
        return EncodedDocuments({}, {document.text: reason for document in documents})
    middle = len(documents) // 2
    return encode(source, documents[:middle]) | encode(source, documents[middle:])


def encode_reworded(
    source: AdapterSource, documents: Sequence[Document], conditions: Sequence[Condition]
) -> EncodedDocuments:
    """Adapters of the documents in the wordings of the conditions' variants, by the text they are made of.

    A text told otherwise has no ids and no points: an adapter filed under these is of the document as it stands. Raises
    AdapterError for a source with one adapter for every document, of which no variant can be made.
    """
    made = {
        c.variant: c.name for c in conditions if c.variant is not None and c.policy is not None and c.prompt is None
    }
    if made and traits_of(source).scope == "nothing":
        raise AdapterError(
            f"source {source.name}: one adapter serves every document, so none can be made for {next(iter(made.values()))}; "
            "leave joined, stated and hedged out of --probes and --policies"
        )
    told = {
        text: replace(document, text=text, ids=(), points=())
        for variant in made
        for document in documents
        if (text := variant.reworded(document.text)) != document.text
    }
    return encode(source, tuple(told.values()))
