"""More items: how many would decide what this run leaves open, if its estimates are right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.tune.budget import Budget
from override_gap.analyses.tune.limits import SURE, wilson_upper
from override_gap.analyses.tune.outcomes import Outcomes
from override_gap.analyses.tune.select import Priced

POWER = 0.8
WANTED = float(stats.norm.ppf(SURE) + stats.norm.ppf(POWER))
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


def more_conflicts(gap: Estimate, alpha: float = 0.05) -> More:
    """Conflicts beside the present ones at which a difference of this size excludes zero with 80% probability.

    The error falls with the root of the number of knowledge points: n (z_.975 + z_.8)^2 (error / gap)^2. `alpha`: at which
    p counts, smaller where several differences are looked at.
    """
    what = "conflicts on new knowledge points"
    if not math.isfinite(gap.low) or abs(gap.value) < 1e-9:
        return More(None, what)
    wanted = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(POWER))
    error = (gap.high - gap.low) / 2 / float(stats.norm.ppf(0.975))
    total = gap.n * (wanted * error / gap.value) ** 2
    return More(rounded_up(total - gap.n) if total <= MOST * gap.n else None, what)


def more_unrelated(found: Outcomes, priced: Priced, place: int, budget: Budget) -> More:
    """Unrelated questions beside the present ones at which a candidate's limits are within the budget with 80% probability.

    Of a mean KL the distance from the estimate to its bound must be z_.95 + z_.8 of its errors, on the logarithmic scale.
    """
    what = "unrelated questions on new knowledge points"
    times = [1.0]
    lost, kl = priced.lost, priced.kl
    if budget.keep is not None and lost is not None and lost.size is not None:
        times.append(_times_of_share(float(lost.value[place]), float(lost.size[place]), 1 - budget.keep))
    if budget.kl is not None and kl is not None and kl.upper[place] > budget.kl:
        value, upper = float(kl.value[place]), float(kl.upper[place])
        known = 0 < value < budget.kl and math.isfinite(upper)
        error = math.log(upper / value) / float(stats.norm.ppf(SURE)) if known else math.nan
        times.append((WANTED * error / math.log(budget.kl / value)) ** 2 if known else math.inf)
    n = max(0 if sample is None else len(sample) for sample in (found.retention, found.kl))
    return More(rounded_up((max(times) - 1) * n) if max(times) <= MOST else None, what)


def _times_of_share(lost: float, size: float, bound: float) -> float:
    """How many times as many items bring Wilson's upper limit within the bound with 80% probability; infinite above MOST."""
    times = np.geomspace(1.0, MOST, 2000)
    n = size * times
    seen = lost + float(stats.norm.ppf(POWER)) * np.sqrt(lost * (1 - lost) / n)
    enough = wilson_upper(seen, n, float(stats.norm.ppf(SURE))) <= bound
    return float(times[enough.argmax()]) if enough.any() else math.inf


def rounded_up(n: float) -> int:
    """A whole number of two digits, upwards."""
    n = max(1.0, n)
    unit = 10 ** max(0, int(np.floor(np.log10(n))) - 1)
    return int(np.ceil(n / unit) * unit)
