"""Company: the documents of a unit, and which of them stand beside an item's own where a condition joins several."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from override_gap.margins.adapter import Adapter, AnyAdapter, join
from override_gap.margins.conditions import Variant
from override_gap.margins.items.item import Item
from override_gap.probes.run.encode import EncodedDocuments


@dataclass(frozen=True)
class Distractors:
    """A unit's documents in its order, with the knowledge points of each; and adapters by text, retold ones included.

    `broken`: texts of which the source made none, with the reason.
    """

    points: Mapping[str, frozenset[str]]
    adapters: Mapping[str, AnyAdapter]
    broken: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Sequence[Item], made: EncodedDocuments) -> Distractors:
        """The company of a unit's items."""
        points: dict[str, set[str]] = {}
        for item in items:
            points.setdefault(item.document, set()).add(item.point)
        return cls({text: frozenset(found) for text, found in points.items()}, made.adapters, made.broken)

    def group(self, item: Item, variant: Variant) -> list[str]:
        """The item's own document, then those that follow it in the unit and say nothing of its knowledge points."""
        texts = list(self.points)
        at = texts.index(item.document)
        around = [*texts[at + 1 :], *texts[:at]]
        others = [
            text for text in around if text in self.adapters and not self.points[text] & self.points[item.document]
        ]
        return [item.document, *others][: variant.count]

    def lacks(self, item: Item, variant: Variant) -> str | None:
        """Why an item cannot be measured in this company, or None."""
        texts = self.group(item, variant)
        reasons = [self.broken[text] for text in map(variant.reworded, texts) if text in self.broken]
        if reasons:
            return reasons[0]
        found = len(texts)
        if found == variant.count:
            return None
        return f"{variant.count} documents about different knowledge points are needed to join, its unit has {found}"

    def adapter(self, item: Item, variant: Variant) -> AnyAdapter:
        """The adapter that a variant makes of the item's document and its company."""
        # an item that lacks one is an error row; its own adapter holds its place in the batch
        parts = [self.adapters.get(variant.reworded(t), self.adapters[t]) for t in self.group(item, variant)]
        # more than one is asked of updates of the weights alone (`needs_update`)
        return parts[0] if len(parts) == 1 else join([part for part in parts if isinstance(part, Adapter)])

    def distractor_prompt(self, item: Item, variant: Variant) -> str:
        """The documents as one text, in an order of content alone: the item's own stands anywhere among them."""
        return "\n".join(sorted(self.group(item, variant), key=lambda text: hashlib.sha256(text.encode()).digest()))
