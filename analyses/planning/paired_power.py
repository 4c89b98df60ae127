"""How many items two methods' difference or a price needs, by simulation of the test and the limit that decide them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped

from override_gap.analyses.planning.simulated import Truth, draw, sizes
from override_gap.analyses.planning.sizes import PlannedSize, probability_error, search
from override_gap.analyses.stats.clusters import labelled
from override_gap.analyses.stats.estimate import HtmlRepr
from override_gap.analyses.stats.paired import paired_test
from override_gap.analyses.tune.limits import SURE, read_levels, share_cost
from override_gap.margins.text import plural

AUDITS, AUDITS_PAIRED = 1000, 200
ALPHA = 0.05
ANSWERS = 4_000_000
"""Simulated answers at once, so that memory stays small."""


@dataclass(frozen=True)
class ItemsPower(HtmlRepr):
    """Sizes with the probability that a question is answered, and the least with the wanted one; `finds` says what is found.

    `asked` is the size that was asked for, if any.
    """

    question: str
    finds: str
    probability: float
    rows: tuple[PlannedSize, ...]
    needed: PlannedSize | None
    asked: PlannedSize | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "question": self.question,
            "finds": self.finds,
            "probability": self.probability,
            "needed": None if self.needed is None else self.needed.as_json(),
            "asked": None if self.asked is None else self.asked.as_json(),
            "sizes": [row.as_json() for row in self.rows],
        }

    def __str__(self) -> str:
        wanted = f"{self.probability:.0%}" if self.asked else f"{self.probability:.0%} probability to find {self.finds}"
        if self.needed is None:
            answer = f"No audit of up to {self.rows[-1].points} points has {wanted}."
        else:
            size = f"{plural(self.needed.items, 'item')} on {plural(self.needed.points, 'knowledge point')}"
            answer = f"{wanted} takes {size}."
        if self.asked is not None:
            at = f"With {plural(self.asked.points, 'knowledge point')} ({plural(self.asked.items, 'item')})"
            answer = f"{at} the probability to find {self.finds} is {self.asked.reached:.0%}. {answer}"
        lines = [f"{'points':>8}{'items':>8}{'found':>8}"]
        lines += [f"{row.points:>8}{row.items:>8}{row.reached:>8.0%}" for row in self.rows]
        return "\n".join([*textwrap.wrap(answer, 80), *lines])


def difference_power(
    difference: float,
    differing: float,
    truth: Truth,
    probability: float = 0.8,
    points: int | None = None,
    seed: int = 0,
) -> ItemsPower:
    """Items at which the paired test of two methods has p below .05 (`stats.paired.paired_test`; one comparison, no Holm).

    ``differing`` is the share of items that just one method gets right, ``difference`` that of the first minus that of the
    second. Raises ValueError where the difference is 0 or larger than what differs.
    """
    if not 0 < abs(difference) <= differing <= 1:
        raise ValueError(
            f"a difference needs to lie between 0 and the share of items that differ, got {difference:g} of {differing:g}; "
            "give --differing, the share of items that just one of the two methods gets right"
        )
    first = (differing + difference) / 2 / differing

    def of_size(size: int) -> PlannedSize:
        rng = np.random.default_rng([seed, size, 2])
        of_point = np.repeat(np.arange(size), sizes(size, truth.items_per_point))
        relation = np.arange(size) % truth.relations if truth.relations else None
        names = _names(of_point, relation)
        icc = (truth.icc, truth.icc_relation)
        differs = draw(rng, AUDITS_PAIRED, of_point, relation, differing, *icc)
        sign = 2 * draw(rng, AUDITS_PAIRED, of_point, relation, first, *icc) - 1
        found = float(np.mean([paired_test(gap, names) < ALPHA for gap in differs * sign]))
        return PlannedSize(size, len(of_point), found, probability_error(found, AUDITS_PAIRED), {"found": found})

    rows, needed = search(of_size, probability, points)
    finds = f"a difference of {100 * difference:g} percentage points"
    return ItemsPower("difference", finds, probability, tuple(rows), needed, of_points(rows, points))


def retention_power(
    kept: float, keep: float, truth: Truth, probability: float = 0.8, points: int | None = None, seed: int = 0
) -> ItemsPower:
    """Retention items at which tuning holds the budget ``keep`` to be kept, where ``kept`` is the truth.

    The rule of `analyses.tune`: the one-sided 95% upper limit of the share lost (`tune.limits.share_cost`) is at most 1 - keep.
    Raises ValueError where the truth does not lie above it.
    """
    if not 0 < keep < kept <= 1:
        raise ValueError(f"the share kept needs to lie above the one to keep, got {kept:g} and {keep:g}")

    def of_size(size: int) -> PlannedSize:
        rng = np.random.default_rng([seed, size, 3])
        of_point = np.repeat(np.arange(size), sizes(size, truth.items_per_point))
        relation = np.arange(size) % truth.relations if truth.relations else None
        clusterings, everything = read_levels(_names(of_point, relation)), np.ones(len(of_point), bool)
        within, at_once = [], max(1, ANSWERS // len(of_point))
        for first in range(0, AUDITS, at_once):
            count = min(at_once, AUDITS - first)
            lost = 1 - draw(rng, count, of_point, relation, kept, truth.icc, truth.icc_relation)
            within.append(share_cost(lost.T, clusterings, everything).upper <= 1 - keep + 1e-12)
        found = float(np.concatenate(within).mean())
        return PlannedSize(size, len(of_point), found, probability_error(found, AUDITS), {"found": found})

    rows, needed = search(of_size, probability, points)
    finds = f"with {SURE:.0%} certainty that at least {100 * keep:.4g}% of unrelated answers are kept ({100 * kept:.4g}% are)"
    return ItemsPower("retention", finds, probability, tuple(rows), needed, of_points(rows, points))


def of_points(rows: Sequence[PlannedSize], points: int | None) -> PlannedSize | None:
    """The size with so many points."""
    return next((row for row in rows if row.points == points), None)


def _names(
    of_point: Integer[np.ndarray, " item"], relation: Integer[np.ndarray, " point"] | None
) -> Shaped[np.ndarray, " item"]:
    """Names of the items' points, which carry their relation where there is one."""
    names = np.array([f"p{point}" for point in of_point], dtype=object)
    if relation is None:
        return names
    return labelled(names, np.array([f"r{relation[point]}" for point in of_point], dtype=object))
