"""Two conditions, or two runs, on the same items: paired differences, clustered tests, Holm's correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, truth
from override_gap.analyses.stats.estimate import Estimate, HtmlRepr, number
from override_gap.analyses.stats.intervals import difference
from override_gap.analyses.stats.paired import Array, holm, paired_test


@dataclass(frozen=True)
class Comparison(HtmlRepr):
    """First minus second in success; ``gained`` items only the first wins, ``lost`` only the second; p two-sided."""

    first: str
    second: str
    split: str
    measure: str
    difference: Estimate
    gained: int
    lost: int
    p: float

    def __str__(self) -> str:
        where = (
            f"{self.split}, {self.measure}: only the first {self.gained}, only the second {self.lost}, p {self.p:.3g}"
        )
        return f"{self.difference}\n  {where}"

    @property
    def above(self) -> float:
        """One-sided p of "the first succeeds more often"."""
        return self.p / 2 if self.gained > self.lost else 1 - self.p / 2

    def as_json(self) -> dict[str, Any]:
        """Flat row for a table."""
        return {
            "first": self.first,
            "second": self.second,
            "split": self.split,
            "measure": self.measure,
            "difference": self.difference.as_json(),
            "gained": self.gained,
            "lost": self.lost,
            "p": number(self.p),
        }


def compare(first: Table, second: Table, names: tuple[str, str], split: str, measure: str) -> Comparison | None:
    """Pair two selections of readings by item; None where they share no measured item."""
    column = f"success_{measure}"
    if first.empty or second.empty:
        return None
    left = first.set_index("item")[[column, "point"]]
    joined = left.assign(other=second.set_index("item")[column]).loc[left.index.isin(second["item"])]
    own, other = truth(joined[column]), truth(joined["other"])
    both = ~np.isnan(own) & ~np.isnan(other)
    if not both.any():
        return None
    return paired(own[both], other[both], joined["point"].to_numpy(dtype=object)[both], names, split, measure)


def paired(own: Array, other: Array, points: Array, names: tuple[str, str], split: str, measure: str) -> Comparison:
    """Outcomes [n] of two sides on the same items, none of them unmeasured."""
    found = difference(f"{names[0]} minus {names[1]}", own, points, other, points)
    found = Estimate(
        found.name, found.value, found.low, found.high, len(own), found.points, "", found.level, found.caveats
    )
    gained, lost = int((own > other).sum()), int((own < other).sum())
    p = paired_test(own - other, points) if found.points > 1 else float("nan")
    return Comparison(*names, split, measure, found, gained, lost, p)


def conditions(
    run: RunFrame, first: str, second: str, split: str = "conflict", measure: str = "top1"
) -> Comparison | None:
    """Two conditions of one run on the same items."""
    return compare(run.select(split, first), run.select(split, second), (first, second), split, measure)


def runs(
    first: RunFrame,
    second: RunFrame,
    condition: str = DELIVERED,
    split: str = "conflict",
    measure: str = "top1",
    names: tuple[str, str] = ("first", "second"),
) -> Comparison | None:
    """Two runs (methods) under one condition, on the items that both measured."""
    return compare(first.select(split, condition), second.select(split, condition), names, split, measure)


def against_delivered(run: RunFrame, measure: str = "top1") -> list[dict[str, Any]]:
    """Every condition against the method as delivered, per split, Holm within a split."""
    rows = []
    for split in ("conflict", "novel", "combination", "retention"):
        found = [
            comparison
            for name in run.conditions
            if name not in (BASE, DELIVERED) and (comparison := conditions(run, name, DELIVERED, split, measure))
        ]
        for comparison, p in zip(found, holm([comparison.p for comparison in found]), strict=True):
            rows.append(comparison.as_json() | {"p_holm": number(p)})
    return rows
