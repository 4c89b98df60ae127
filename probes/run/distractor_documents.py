"""Distractors: the unit's other documents that stand beside an item's own where a condition combines several."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from override_gap.margins.adapter import Adapter, AnyAdapter, join
from override_gap.margins.conditions import reword
from override_gap.margins.factor_mean import mean_of_factors
from override_gap.margins.items.item import Item
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.null_adapters import NullAdapters


@dataclass(frozen=True)
class Distractors:
    """A unit's documents in its order, with the knowledge points of each; and its adapters by text, reworded ones included.

    `broken` holds the texts of which the source made no adapter, with the reason; `nulls` what null conditions are read under.
    """

    points: Mapping[str, frozenset[str]]
    adapters: Mapping[str, AnyAdapter]
    broken: Mapping[str, str] = field(default_factory=dict)
    nulls: NullAdapters | None = None

    @classmethod
    def of(cls, items: Sequence[Item], encoded: EncodedDocuments) -> Distractors:
        """Those of a unit's items."""
        points: dict[str, set[str]] = {}
        for item in items:
            points.setdefault(item.document, set()).add(item.point)
        return cls(
            {text: frozenset(names) for text, names in points.items()}, encoded.adapters, encoded.broken, encoded.nulls
        )

    def documents(self, item: Item, count: int) -> list[str]:
        """The item's own document, then those that follow it in the unit and share none of its knowledge points."""
        texts = list(self.points)
        at = texts.index(item.document)
        others = [
            text
            for text in [*texts[at + 1 :], *texts[:at]]
            if text in self.adapters and not self.points[text] & self.points[item.document]
        ]
        return [item.document, *others][:count]

    def obstacle(self, item: Item, count: int, wording: str = "{document}") -> str | None:
        """Why an item cannot be measured with so many documents in this wording, or None."""
        texts = self.documents(item, count)
        reasons = [self.broken[text] for text in (reword(wording, t) for t in texts) if text in self.broken]
        if reasons:
            return reasons[0]
        if len(texts) == count:
            return None
        return f"{count} documents about different knowledge points are needed to join, its unit has {len(texts)}"

    def adapter(self, item: Item, count: int, wording: str = "{document}", *, mean: bool = False) -> AnyAdapter:
        """The adapter of so many documents in this wording, joined into one: added up, or with `mean` their factors averaged.

        Raises ValueError where they cannot be joined so.
        """
        # an item with an obstacle is an error row; its own adapter holds its place in the batch
        parts = [self.adapters.get(reword(wording, text), self.adapters[text]) for text in self.documents(item, count)]
        # several are joined only where they are weight updates (`Condition.needs_update`)
        if len(parts) == 1:
            return parts[0]
        return (mean_of_factors if mean else join)([part for part in parts if isinstance(part, Adapter)])

    def joined(
        self, items: Sequence[Item], own_adapters: Sequence[AnyAdapter], count: int, *, mean: bool = False
    ) -> tuple[list[AnyAdapter], dict[int, str]]:
        """The adapter of so many documents per item, and why some items have none: these keep their own as a place holder."""
        adapters = list(own_adapters)
        reasons = {n: reason for n, item in enumerate(items) if (reason := self.obstacle(item, count)) is not None}
        for n, item in enumerate(items):
            try:
                adapters[n] = self.adapter(item, count, mean=mean)
            except ValueError as fault:  # they differ in their shared parts, or for a mean in their ranks or scales
                reasons.setdefault(n, str(fault))
        return adapters, reasons

    def distractor_prompt(self, item: Item, count: int) -> str:
        """So many documents as one text, in an order drawn by content: the item's own stands anywhere among them."""
        return "\n".join(sorted(self.documents(item, count), key=lambda text: hashlib.sha256(text.encode()).digest()))
