"""What the null conditions are read under: another document's adapter, the mean of many, a random one; or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from override_gap.margins.adapter import Adapter, AnyAdapter
from override_gap.margins.items.item import Item
from override_gap.margins.items.null_documents import NullDocuments
from override_gap.margins.null_adapters import random_like


@dataclass(frozen=True)
class MeanAdapter:
    """The mean adapter of one half of the documents, and of how many it is; without an adapter the `reason`.

    `left_out`: how many adapters were not finite and are not in it.
    """

    adapter: Adapter | None
    documents: int = 0
    reason: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class NullAdapters:
    """The null conditions' adapters. `adapters` and `broken` are by document text, partners' included, as encoding gave them."""

    documents: NullDocuments
    adapters: Mapping[str, AnyAdapter]
    broken: Mapping[str, str]
    means: tuple[MeanAdapter, ...] = ()

    def other(self, item: Item) -> AnyAdapter | str:
        """The adapter of the item's partner, or why there is none."""
        partner = self.documents.partners.get(item.id)
        if partner is None:
            return f"no other document to compare with: {self.documents.unpartnered[item.id]}"
        return self.adapters.get(partner.text) or f"another document's adapter: {self.broken[partner.text]}"

    def mean(self, item: Item) -> Adapter | str:
        """The mean adapter of the half of the documents without the item's own, or why there is none."""
        mean = self.means[self.documents.mean_half[item.document]]
        return mean.adapter or mean.reason


def random_adapters(items: Sequence[Item], adapters: Sequence[AnyAdapter], seed: int) -> list[Adapter]:
    """A random adapter per item like its own, the same for all items of a document."""
    drawn: dict[str, Adapter] = {}
    for item, adapter in zip(items, adapters, strict=True):
        assert isinstance(adapter, Adapter), "a random update is refused to a method that has none"
        if item.document not in drawn:
            drawn[item.document] = random_like(adapter, item.document, seed)
    return [drawn[item.document] for item in items]
