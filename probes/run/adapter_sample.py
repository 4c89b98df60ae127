"""The adapters of a sample of documents, held together to be compared with each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from override_gap.margins.adapter import Adapter, AdapterSource, traits_of
from override_gap.margins.items.item import Document, Item
from override_gap.margins.items.item_set import ItemSet
from override_gap.probes.attach.stack import check
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.comparisons import relation_of
from override_gap.probes.run.encode import encode
from override_gap.probes.subject.model import Subject


@dataclass(frozen=True)
class AdapterSample:
    """Adapters of documents that were drawn, with the relation of what each document states; None where none is named."""

    documents: tuple[Document, ...]
    adapters: tuple[Adapter, ...]
    relations: tuple[str | None, ...]


def encoded_sample(
    subject: Subject, source: AdapterSource, items: Sequence[Item], count: int, seed: int
) -> AdapterSample:
    """`count` documents drawn by the seed, and their adapters. Raises AdapterError where there are no updates to compare, or
    where they do not fit the subject.

    A method that encodes documents together is given them all at once, the sample alone is kept.
    """
    traits = traits_of(source)
    if not traits.static:
        raise AdapterError(
            "the method is not a weight update, so its adapters have no norms and no angles between them"
        )
    if traits.scope == "nothing":
        raise AdapterError("the method has one adapter for every document, so there are none to compare")
    whole = ItemSet.of(items)
    documents = [document for document in whole.documents if document.text.strip()]
    drawn = sorted(documents, key=lambda document: hashlib.sha256(f"{seed}:{document.key}".encode()).digest())[:count]
    encoded = encode(source, documents if traits.scope == "batch" else drawn)
    found = []
    for document in drawn:
        adapter = encoded.adapters.get(document.text)
        if not isinstance(adapter, Adapter):
            raise AdapterError(encoded.broken.get(document.text, f"no adapter for document {document.text[:40]!r}"))
        found.append(adapter)
    check(subject, found)
    stated = (
        [i for i in whole.by_document[d.text] if i.split != "retention"] or whole.by_document[d.text] for d in drawn
    )
    relations = tuple(next((name for item in asked if (name := relation_of(item))), None) for asked in stated)
    return AdapterSample(tuple(drawn), tuple(found), relations)
