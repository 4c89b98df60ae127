"""More known conflicts: how many would decide a verdict that is inconclusive because too little was measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import root_scalar

from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import wilson
from override_gap.analyses.tune.more import MOST, POWER, rounded_up
from override_gap.analyses.verdict import FEWEST, FEWEST_POINTS, NO_FAILURE, Verdict, judge

TIMES = np.geomspace(1.0, MOST, 160)
"""Sizes of audit that are tried, in times of the present one."""
NORMAL = stats.norm.ppf((np.arange(60) + 0.5) / 60)
QUANTILE = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class MoreKnown:
    """Known conflicts beside the present ones at which the verdict is decided with 80% probability, if its shares are right.

    None where no number of use would, or where none of the conflicts is known. `at_least`: the number is what the rule asks
    for before it looks at any share, so more may be needed.
    """

    n: int | None
    at_least: bool = False

    def as_json(self) -> dict[str, Any]:
        """``verdict.more`` of the summary."""
        return {"known_conflicts": self.n, "at_least": self.at_least}


def more_known(verdict: Verdict) -> MoreKnown | None:
    """How many more known conflicts would decide; None where the label is another one, or more of them would not help."""
    failing, held = verdict.failing, verdict.held
    if verdict.label != "inconclusive":
        return None
    if failing is None or not failing.n:
        return MoreKnown(None)
    if held is None or not held.n:
        # no failure was searched: what is known of the failures is their number alone
        if failing.n >= FEWEST and failing.points >= FEWEST_POINTS:
            return None
        return _for_the_least(failing)
    few = held.n < FEWEST or held.points < FEWEST_POINTS
    if not few and judge(held) != "inconclusive":
        return None
    times = next((float(t) for t in TIMES if _decided(failing, held, float(t)) >= POWER), None)
    return MoreKnown(None if times is None else rounded_up((times - 1) * failing.n))


def _for_the_least(failing: Estimate) -> MoreKnown:
    """What the rule needs before it reads a share: ten known conflicts on five knowledge points, ten of which fail."""
    wanted = max(FEWEST / failing.n, FEWEST_POINTS / failing.points)
    if failing.value > 0:
        wanted = max(wanted, FEWEST / (failing.value * failing.n))
    return MoreKnown(rounded_up((wanted - 1) * failing.n), at_least=True)


def _decided(failing: Estimate, held: Estimate, times: float) -> float:
    """Probability that an audit of so many times the size has some label."""
    little = _probability(failing, times, lambda low, high: high < NO_FAILURE)
    n, rate = failing.n * times, failing.value
    # as many failures as the rule asks for, by the normal approximation with its correction for whole numbers
    spread = math.sqrt(n * rate * (1 - rate))
    enough = float(stats.norm.sf((FEWEST - 0.5 - n * rate) / spread)) if spread else float(n * rate >= FEWEST)
    if held.points * times < FEWEST_POINTS:
        enough = 0.0
    told = _probability(held, times, lambda low, high: _label(held, low, high) != "inconclusive")
    return little + (1 - little) * enough * told


def _probability(share: Estimate, times: float, holds: Callable[[float, float], bool]) -> float:
    """Probability that a share's limits at so many times its size are as `holds` says; the share seen is normal around it."""
    size = _size(share.value, share.low, share.high, share.n, share.points) * times
    seen = np.clip(share.value + NORMAL * math.sqrt(share.value * (1 - share.value) / size), 0.0, 1.0)
    return float(np.mean([holds(*wilson(float(value) * size, size, quantile=QUANTILE)) for value in seen]))


def _label(held: Estimate, low: float, high: float) -> str:
    return judge(replace(held, low=low, high=high))


@lru_cache(maxsize=64)
def _size(value: float, least: float, most: float, n: int, points: int) -> float:
    """Independent questions whose Wilson interval would be as wide as a share's own."""
    if not math.isfinite(least):
        return float(points)

    def wider(logarithm: float) -> float:
        size = math.exp(logarithm)
        low, high = wilson(value * size, size, quantile=QUANTILE)
        return (high - low) - (most - least)

    smallest, largest = math.log(0.1), math.log(10 * n + 10)
    if wider(smallest) <= 0:
        return 0.1
    if wider(largest) >= 0:
        return 10.0 * n + 10
    return math.exp(root_scalar(wider, bracket=(smallest, largest)).root)
