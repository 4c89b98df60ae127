"""Encoding for the null conditions: partners' documents with a unit, and the mean adapters once per process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from override_gap.margins.adapter import Adapter, AdapterSource, traits_of
from override_gap.margins.conditions import Condition
from override_gap.margins.items.item import Document, Item
from override_gap.margins.items.null_documents import NullDocuments
from override_gap.margins.null_adapters import AdapterMean, is_finite
from override_gap.probes.run.encode import EncodedDocuments, encode
from override_gap.probes.run.null_adapters import MeanAdapter, NullAdapters

#: So many documents are encoded at once for a mean.
AT_ONCE = 32


@dataclass
class MeanAdapters:
    """The mean adapters of a run's two halves: made once per process, since every unit is read under the same ones."""

    made: dict[str, tuple[MeanAdapter, ...]] = field(default_factory=dict)

    def of(self, source: AdapterSource, documents: NullDocuments) -> tuple[MeanAdapter, ...]:
        """Both means of a source's adapters, made when first asked for."""
        if documents.key not in self.made:
            self.made = {documents.key: tuple(_mean(source, half) for half in documents.halves)}
        return self.made[documents.key]


def encode_nulls(
    source: AdapterSource,
    documents: NullDocuments | None,
    items: Sequence[Item],
    conditions: Sequence[Condition],
    encoded: EncodedDocuments,
    means: MeanAdapters,
) -> NullAdapters | None:
    """What the null conditions among these need for some items; `encoded` are the items' own documents, reused as partners.

    None where there is no null condition.
    """
    if documents is None:
        return None
    partners: dict[str, Document] = {}
    if any(condition.needs_partner for condition in conditions):
        found = [documents.partners[item.id] for item in items if item.id in documents.partners]
        known = encoded.adapters.keys() | encoded.broken.keys()
        partners = {document.text: document for document in found if document.text not in known}
    others = encoded | encode(source, tuple(partners.values()))
    with_mean = any(condition.needs_mean for condition in conditions)
    return NullAdapters(documents, others.adapters, others.broken, means.of(source, documents) if with_mean else ())


def _mean(source: AdapterSource, documents: Sequence[Document]) -> MeanAdapter:
    """The mean adapter of documents, encoded some at a time; those that could not be made or are not finite are not in it."""
    total, left_out, reason = AdapterMean(), 0, "no document about another knowledge point to take the mean of"
    step = len(documents) if traits_of(source).scope == "batch" else AT_ONCE
    for first in range(0, len(documents), max(step, 1)):
        encoded = encode(source, documents[first : first + step])
        reason = next(iter(encoded.broken.values()), reason)
        for adapter in encoded.adapters.values():
            assert isinstance(adapter, Adapter), "a mean is refused to a method without weight updates"
            if not is_finite(adapter):
                left_out, reason = left_out + 1, f"adapter {adapter.name}: its weights are not finite"
                continue
            try:
                total.add(adapter)
            except ValueError as fault:
                return MeanAdapter(None, reason=str(fault))
    if not total.count:
        return MeanAdapter(None, reason=reason, left_out=left_out)
    return MeanAdapter(total.adapter(f"mean of {total.count} documents"), total.count, left_out=left_out)
