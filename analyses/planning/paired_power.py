"""How many items two methods' difference or a price needs, by simulation of the test and the interval that decide them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from override_gap.analyses.planning.rule import Share
from override_gap.analyses.planning.simulated import Truth, draw, per_point, sizes
from override_gap.analyses.planning.sizes import PlannedSize, probability_error, search
from override_gap.analyses.stats.clusters import labelled
from override_gap.analyses.stats.estimate import HtmlRepr
from override_gap.analyses.stats.paired import paired_test
from override_gap.margins.text import plural

AUDITS, AUDITS_PAIRED = 1000, 200
ALPHA = 0.05


@dataclass(frozen=True)
class ItemsPower(HtmlRepr):
    """Sizes with the probability that a question is answered, and the least with the wanted one; `finds` says what is found."""

    question: str
    finds: str
    probability: float
    rows: tuple[PlannedSize, ...]
    needed: PlannedSize | None

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "question": self.question,
            "finds": self.finds,
            "probability": self.probability,
            "needed": None if self.needed is None else self.needed.as_json(),
            "sizes": [row.as_json() for row in self.rows],
        }

    def __str__(self) -> str:
        if self.needed is None:
            answer = (
                f"{self.finds} is not found with {self.probability:.0%} probability by {self.rows[-1].points} points."
            )
        else:
            answer = (
                f"{self.finds} is found with {self.probability:.0%} probability by {plural(self.needed.items, 'item')} on "
                f"{plural(self.needed.points, 'knowledge point')}."
            )
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
        names = np.array([f"p{point}" for point in of_point], dtype=object)
        if relation is not None:
            names = labelled(names, np.array([f"r{relation[point]}" for point in of_point], dtype=object))
        icc = (truth.icc, truth.icc_relation)
        differs = draw(rng, AUDITS_PAIRED, of_point, relation, differing, *icc)
        sign = 2 * draw(rng, AUDITS_PAIRED, of_point, relation, first, *icc) - 1
        found = float(np.mean([paired_test(gap, names) < ALPHA for gap in differs * sign]))
        return PlannedSize(size, len(of_point), found, probability_error(found, AUDITS_PAIRED), {"found": found})

    rows, needed = search(of_size, probability, points)
    return ItemsPower("difference", f"a difference of {100 * difference:g} points", probability, tuple(rows), needed)


def retention_power(
    kept: float, keep: float, truth: Truth, probability: float = 0.8, points: int | None = None, seed: int = 0
) -> ItemsPower:
    """Retention items at which the interval of the share kept lies above ``keep``, where ``kept`` is the truth.

    Raises ValueError where the truth does not lie above it.
    """
    if not 0 < keep < kept <= 1:
        raise ValueError(f"the share kept needs to lie above the one to keep, got {kept:g} and {keep:g}")

    def of_size(size: int) -> PlannedSize:
        rng = np.random.default_rng([seed, size, 3])
        of_point = np.repeat(np.arange(size), sizes(size, truth.items_per_point))
        relation = np.arange(size) % truth.relations if truth.relations else None
        won = per_point(draw(rng, AUDITS, of_point, relation, kept, truth.icc, truth.icc_relation), of_point)
        all_of = np.broadcast_to(sizes(size, truth.items_per_point).astype(float), won.shape).copy()
        found = float(Share(won, all_of, relation, all_of, 0.95).above(keep).mean())
        return PlannedSize(size, len(of_point), found, probability_error(found, AUDITS), {"found": found})

    rows, needed = search(of_size, probability, points)
    finds = f"that at least {keep:.0%} of unrelated answers are kept ({kept:.1%} are)"
    return ItemsPower("retention", finds, probability, tuple(rows), needed)
