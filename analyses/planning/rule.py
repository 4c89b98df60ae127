"""The rule of the verdict for many simulated audits at once: the labels that `analyses.verdict` gives them one by one.

Conditions that a plan knows nothing of are taken as met: the failures were searched, the search decided each of them, and
most documents' answers are not the base's own second choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int8, Integer

from override_gap.analyses.planning.share_limits import Counts, PointLimits, RelationLimits
from override_gap.analyses.verdict import (
    EITHER,
    FEWEST,
    FEWEST_POINTS,
    FEWEST_RELATIONS,
    MAGNITUDE,
    NO_FAILURE,
    REPRESENTATIONAL,
)

LABELS = ("no-failure", "magnitude", "representational", "mixed", "inconclusive")
NO_FAIL, MAGN, REPR, MIXED, OPEN = range(5)


@dataclass(frozen=True, eq=False)
class Tallies:
    """What audits found, [audit, point]: known conflicts, those that fail, and those held; and each point's relation, if any."""

    known: Counts
    failing: Counts
    held: Counts
    relation: Integer[np.ndarray, " point"] | None = None

    def first(self, count: int) -> Tallies:
        """The same audits after so many points."""
        relation = None if self.relation is None else self.relation[:count]
        return Tallies(self.known[:, :count], self.failing[:, :count], self.held[:, :count], relation)

    def part(self, rows: Bool[np.ndarray, " audit"]) -> Tallies:
        """Some of the audits."""
        return Tallies(self.known[rows], self.failing[rows], self.held[rows], self.relation)


class Share:
    """A share of many audits, x of m questions per point, with the limits that the verdict reads.

    `known` conflicts tell how many relations an audit has. What the interval by point leaves open that by relation, which takes
    longer, does not decide either, so that it is made for the other audits alone.
    """

    def __init__(
        self, x: Counts, m: Counts, relation: Integer[np.ndarray, " point"] | None, known: Counts, coverage: float
    ) -> None:
        self.by_point = PointLimits.of(x, m, coverage)
        self.by_relation, self.read_by_relation = None, np.zeros(len(x), dtype=bool)
        if relation is None:
            return
        within = np.equal.outer(relation, np.arange(relation.max() + 1)).astype(float)
        of_known, higher = known @ within, m @ within
        n_points, n_relations = (m > 0).sum(1), (higher > 0).sum(1)
        # one relation says nothing of others, and relations of a point each are the points again
        several = (n_relations > 1) & (n_relations < n_points)
        self.read_by_relation = ((of_known > 0).sum(1) >= FEWEST_RELATIONS) & several
        self.by_relation = RelationLimits(x @ within, higher, coverage)

    def above(self, value: float) -> Bool[np.ndarray, " audit"]:
        """Whether the lower limit lies above a value."""
        found = self.by_point.low > value
        rows = np.flatnonzero(found & self.read_by_relation)
        if self.by_relation is not None and len(rows):
            found[rows] = self.by_relation.above(value, rows)
        return found

    def below(self, value: float) -> Bool[np.ndarray, " audit"]:
        """Whether the upper limit lies below a value."""
        found = self.by_point.high < value
        rows = np.flatnonzero(found & self.read_by_relation)
        if self.by_relation is not None and len(rows):
            found[rows] = self.by_relation.below(value, rows)
        return found


def labels(audits: Tallies, coverage: float = 0.95) -> tuple[Int8[np.ndarray, " audit"], Bool[np.ndarray, " audit"]]:
    """The label of each audit (its number in LABELS), and whether it is decided: no more questions could give another label."""
    n_known, n_failing = audits.known.sum(1), audits.failing.sum(1)
    enough = (n_known >= FEWEST) & ((audits.known > 0).sum(1) >= FEWEST_POINTS)
    searched = (n_failing >= FEWEST) & ((audits.failing > 0).sum(1) >= FEWEST_POINTS)
    label = np.full(len(n_known), OPEN, dtype=np.int8)
    decided = np.zeros(len(n_known), dtype=bool)
    if not enough.any():
        return label, decided
    failing = Share(audits.failing, audits.known, audits.relation, audits.known, coverage)
    few = enough & failing.below(NO_FAILURE)
    label[few], decided[few] = NO_FAIL, True
    ask = enough & searched & ~few
    if ask.any():
        part = audits.part(ask)
        held = Share(part.held, part.failing, part.relation, part.known, coverage)
        above, below = held.above(MAGNITUDE), held.below(REPRESENTATIONAL)
        mixed = held.above(EITHER) & held.below(1 - EITHER)
        label[ask] = np.select([above, below, mixed], [MAGN, REPR, MIXED], OPEN)
        between = held.above(REPRESENTATIONAL) & held.below(MAGNITUDE)
        decided[ask] = failing.above(NO_FAILURE)[ask] & (above | below | between)
    return label, decided


def true_label(failing: float, held: float) -> str | None:
    """The label that ever more questions lead to; None where the truth lies on a boundary and no number of them decides."""
    if failing == NO_FAILURE:
        return None
    if failing < NO_FAILURE:
        return LABELS[NO_FAIL]
    if held in (MAGNITUDE, REPRESENTATIONAL):
        return None
    return LABELS[MAGN if held > MAGNITUDE else REPR if held < REPRESENTATIONAL else MIXED]


def claims(label: Int8[np.ndarray, " audit"], failing: float, held: float) -> Float[np.ndarray, " audit"]:
    """Whether each label claims what is not so: no-failure a rate below 20%, magnitude a share held above 2/3 and so on."""
    wrong = np.array(
        [
            failing >= NO_FAILURE,
            held <= MAGNITUDE,
            held >= REPRESENTATIONAL,
            not EITHER < held < 1 - EITHER,
            False,
        ]
    )
    return wrong[label].astype(float)
