"""The quartile gap from published shares alone, where there are no readings.

>>> print(paper_gap())
gap 0.52 [0.33, 0.658], n=97, points=97
  note: from published shares; questions are taken as independent
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from override_gap.analyses.stats.differences import mover
from override_gap.analyses.stats.estimate import LEVEL, Estimate
from override_gap.analyses.stats.intervals import wilson


@dataclass(frozen=True)
class Counted:
    """A published share and the number of questions behind it."""

    share: float
    n: int


# "The Override Gap", arXiv 2604.23750: 194 conflicts in quartiles of 48 and 49. No whole number of 48 or 49 rounds to
# 68%: 33 of 48 is 68.75%. So the published shares are used, not counts.
PAPER_WEAKEST = Counted(0.68, 48)
PAPER_STRONGEST = Counted(0.16, 49)


def gap_from_shares(weak: Counted, strong: Counted, design_effect: float = 1.0, level: float = LEVEL) -> Estimate:
    """Weakest minus strongest quartile with Newcombe's (1998) interval; ``design_effect`` (clustering) divides both sizes."""
    sizes = weak.n / design_effect, strong.n / design_effect
    low1, high1 = wilson(weak.share * sizes[0], sizes[0], level)
    low2, high2 = wilson(strong.share * sizes[1], sizes[1], level)
    value = weak.share - strong.share
    assumption = (
        "questions are taken as independent" if design_effect == 1 else f"design effect {design_effect:g} assumed"
    )
    return Estimate(
        "gap",
        value,
        value - mover(weak.share - low1, high2 - strong.share, 0.0),
        value + mover(high1 - weak.share, strong.share - low2, 0.0),
        weak.n + strong.n,
        weak.n + strong.n,
        level=level,
        caveats=(f"from published shares; {assumption}",),
    )


def gap_test(weak: Counted, strong: Counted, design_effect: float = 1.0) -> float:
    """Two-sided p of "no gap": pooled z test of two proportions at the effective sizes."""
    sizes = weak.n / design_effect, strong.n / design_effect
    pooled = (weak.share * sizes[0] + strong.share * sizes[1]) / sum(sizes)
    error = math.sqrt(pooled * (1 - pooled) * (1 / sizes[0] + 1 / sizes[1]))
    return float(2 * stats.norm.sf(abs(weak.share - strong.share) / error)) if error > 0 else 1.0


def paper_gap(design_effect: float = 1.0) -> Estimate:
    """The paper's gap of 52 percentage points, with the interval that it does not give."""
    return gap_from_shares(PAPER_WEAKEST, PAPER_STRONGEST, design_effect)
