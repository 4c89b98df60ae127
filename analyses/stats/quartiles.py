"""Quarters of an audit by prior strength: which items are in each, and the interval of a gap between the outer two.

The cuts are estimates too, so both come from audits whose clusters are resampled, with quartiles cut anew in each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

from override_gap.analyses.stats import bootstrap
from override_gap.analyses.stats.clusters import Level, levels
from override_gap.analyses.stats.differences import mover
from override_gap.analyses.stats.effective import quantile
from override_gap.analyses.stats.intervals import sized, wilson

REPLICATES = 500
NO_DRAWS = np.full((4, 1), np.nan)


def quartile_of(strength: Float[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
    """Quartile 0..3 of every item from its mid-rank, so that equal strengths always share a quartile."""
    if len(strength) == 0:
        return np.zeros(0, dtype=int)
    w = np.ones((1, len(strength)))
    return _quarters(bootstrap.midranks(strength, w), w)[0]


def _quarters(
    ranks: Float[np.ndarray, "replicate n"], w: Float[np.ndarray, "replicate n"]
) -> Integer[np.ndarray, "replicate n"]:
    # The nudge keeps a mid-rank that falls on a cut in the upper quartile, whatever the rounding.
    return np.clip((4 * ranks / w.sum(1, keepdims=True) + 1e-9).astype(int), 0, 3)


def resampled_accuracies(
    strength: Float[np.ndarray, " n"], success: Float[np.ndarray, " n"], level: Level, seed: int
) -> Float[np.ndarray, "4 replicate"]:
    """Quartile accuracies in audits with resampled clusters, with quartiles cut anew in each.

    The cuts are estimates too: where accuracy is steep in prior strength, moving a cut moves the accuracy.
    """
    blocks, ranks = [], bootstrap.ranker(strength)
    for w in bootstrap.bootstrap_weights(level.codes, level.count, REPLICATES, seed):
        group = _quarters(ranks(w), w)
        inside = (w * (group == k) for k in range(4))  # one after the other: each is as large as all weights
        with np.errstate(invalid="ignore", divide="ignore"):
            blocks.append(np.array([weights @ success / weights.sum(1) for weights in inside]))
    return np.hstack(blocks)


@dataclass(frozen=True, eq=False)
class Resampled:
    """One clustering of the items, and the quartile accuracies in audits whose clusters are resampled."""

    level: Level
    draws: Float[np.ndarray, "4 replicate"]


def resampled(
    strength: Float[np.ndarray, " n"], success: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"], seed: int
) -> list[Resampled]:
    """The clusterings of the items, each with its resampled audits."""
    return [
        Resampled(level, resampled_accuracies(strength, success, level, seed) if level.count > 1 else NO_DRAWS)
        for level in levels(points)
    ]


@dataclass(frozen=True)
class Sized:
    """A share with the size and the degrees of freedom that its interval is made of; without any, it may be anything."""

    share: float
    size: float
    df: float

    def limits(self, coverage: float) -> tuple[float, float]:
        """Wilson's limits."""
        if self.size == 0:
            return 0.0, 1.0
        return wilson(self.share * self.size, self.size, coverage, quantile(self.df, coverage))


@dataclass(frozen=True)
class GapInterval:
    """The interval of the weakest minus the strongest quartile's success at any coverage, at one clustering."""

    weak: Sized
    strong: Sized
    r: float

    def __call__(self, coverage: float) -> tuple[float, float]:
        (low1, high1), (low2, high2) = self.weak.limits(coverage), self.strong.limits(coverage)
        p1, p2, r = self.weak.share, self.strong.share, self.r
        low, high = p1 - p2 - mover(p1 - low1, high2 - p2, r), p1 - p2 + mover(high1 - p1, p2 - low2, r)
        return max(-1.0, low), min(1.0, high)


def gap_interval(
    success: Float[np.ndarray, " n"], weak: Bool[np.ndarray, " n"], strong: Bool[np.ndarray, " n"], resampled: Resampled
) -> GapInterval:
    """The gap's interval from its quartiles' sizes and from their correlation over resampled clusters."""
    draws = resampled.draws
    first, last = (
        quartile_size(success[inside], resampled.level.of(inside), draws[k]) for k, inside in ((0, weak), (3, strong))
    )
    a, b = draws[:, ~np.isnan(draws[[0, 3]]).any(axis=0)][[0, 3]]
    varies = len(a) > 2 and a.std() > 0 and b.std() > 0
    return GapInterval(first, last, float(np.corrcoef(a, b)[0, 1]) if varies else 0.0)


def quartile_size(success: Float[np.ndarray, " inside"], level: Level, draws: Float[np.ndarray, " replicate"]) -> Sized:
    """The effective size of one quartile, no larger than resampling with quartiles cut anew implies; 0 for one cluster."""
    p = float(success.mean())
    if level.count < 2:
        return Sized(p, 0.0, 1.0)
    size, df = sized(success, level)
    spread = float(np.nanvar(draws)) if np.isfinite(draws).any() else 0.0
    return Sized(p, min(size, p * (1 - p) / spread) if spread > 0 and 0 < p < 1 else size, df)
