"""More items: how many would decide what this run leaves open, if its estimates are right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.tune.budget import Budget
from override_gap.analyses.tune.limits import SURE
from override_gap.analyses.tune.outcomes import Outcomes
from override_gap.analyses.tune.select import Priced

POWER = 0.8
MOST = 100
"""So many times as many items as there are: beyond that no number is given."""


@dataclass(frozen=True)
class More:
    """How many more items of a split would decide with 80% probability; None where no number of use would."""

    n: int | None
    what: str

    @property
    def sentence(self) -> str:
        """The same as the end of a sentence."""
        if self.n is None:
            return f"; no affordable number of {self.what} would show it"
        return f"; about {self.n:,} more {self.what} would decide"


def more_conflicts(gap: Estimate) -> More:
    """Conflicts beside the present ones at which a difference of this size excludes zero with 80% probability.

    The error falls with the root of the number of knowledge points: n (z_.975 + z_.8)^2 (error / gap)^2.
    """
    what = "conflicts on new knowledge points"
    if not math.isfinite(gap.low) or abs(gap.value) < 1e-9:
        return More(None, what)
    wanted = float(stats.norm.ppf(0.975) + stats.norm.ppf(POWER))
    error = (gap.high - gap.low) / 2 / float(stats.norm.ppf(0.975))
    total = gap.n * (wanted * error / gap.value) ** 2
    return More(_rounded(total - gap.n) if total <= MOST * gap.n else None, what)


def more_unrelated(found: Outcomes, priced: Priced, place: int, budget: Budget) -> More:
    """Unrelated questions beside the present ones at which a candidate's limits are within the budget with 80% probability.

    The distance from the estimate to its bound must be z_.95 + z_.8 of its errors; the present error is that of the limit.
    """
    what = "unrelated questions on new knowledge points"
    wanted = float(stats.norm.ppf(SURE) + stats.norm.ppf(POWER))
    extra = []
    bounds = [(None if budget.keep is None else 1 - budget.keep, priced.lost, found.retention, False)]
    bounds += [(budget.kl, priced.kl, found.kl, True)]
    for bound, cost, sample, logarithmic in bounds:
        if bound is None or cost is None or sample is None or cost.upper[place] <= bound:
            continue
        value, upper = float(cost.value[place]), float(cost.upper[place])
        if value >= bound - 1e-12:
            return More(None, what)
        room, error = bound - value, (upper - value) / float(stats.norm.ppf(SURE))
        if logarithmic:
            room, error = math.log(bound / value), math.log(upper / value) / float(stats.norm.ppf(SURE))
        total = len(sample) * (wanted * error / room) ** 2
        if total > MOST * len(sample):
            return More(None, what)
        extra.append(total - len(sample))
    return More(_rounded(max(extra)) if extra else 0, what)


def _rounded(n: float) -> int:
    """A whole number of two digits, upwards."""
    n = max(1.0, n)
    unit = 10 ** max(0, int(np.floor(np.log10(n))) - 1)
    return int(np.ceil(n / unit) * unit)
