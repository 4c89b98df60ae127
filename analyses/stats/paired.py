"""A test of paired differences that are clustered, the interval that inverts it, and Holm's correction for several tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int8, Shaped
from scipy import stats

from override_gap.analyses.stats.clusters import Level, levels
from override_gap.analyses.stats.estimate import LEVEL

EXACT, RANDOM, DRAWS = 12, 30, 9999
"""Up to EXACT clusters that differ, every sign pattern is tried; up to RANDOM, DRAWS random ones."""
FEWEST_EQUAL = 8
"""Equal clusters that would carry as much as these, below which random signs are drawn however many clusters differ."""
NONE = 1e-12


@dataclass(frozen=True)
class PairedTest:
    """Two-sided p of "no difference" and the interval of the mean difference that holds every value not rejected.

    p < 1 - coverage exactly if the interval excludes 0. ``differing`` counts the clusters whose differences do not
    cancel: with fewer than six no p can be below .05, and the interval says little of the other clusters.
    """

    p: float
    low: float
    high: float
    differing: int


def paired_test(gap: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"], seed: int = 0) -> float:
    """Two-sided p of the null that paired differences are symmetric about zero, a cluster's items flipping sign together.

    The signs of the clusters' sums are flipped: in every way up to 12 clusters that differ, in 9,999 random ways up to
    30; beyond that the clustered McNemar statistic of Durkalski et al. 2003, sum_g D_g / sqrt(sum_g D_g^2). By point and
    by relation; the larger p counts.
    """
    return max(paired_at(gap, level, seed=seed).p for level in levels(points))


def paired_at(gap: Float[np.ndarray, " n"], level: Level, coverage: float = LEVEL, seed: int = 0) -> PairedTest:
    """`paired_test` at one clustering, with its interval.

    A mean difference d is not rejected where flipping the signs of the clusters' sums of gap - d seldom gives a smaller
    one. Flipping the clusters F does so exactly where d lies between the mean gap of F and that of the others (Hartigan
    1969, typical values), so that the limits are quantiles of the smaller and of the larger of these means.
    """
    sizes = level.sizes.astype(float)
    sums = np.bincount(level.codes, weights=gap, minlength=level.count)
    differing = int((sums != 0).sum())
    if differing == 0:
        return PairedTest(1.0, 0.0, 0.0, 0)
    if differing > RANDOM and sizes.sum() ** 2 / (sizes**2).sum() > FEWEST_EQUAL:
        return mcnemar(sums, sizes, coverage, differing)
    rng = np.random.default_rng(seed)
    exact = differing <= EXACT
    flipped = every_pattern(differing) if exact else rng.choice(np.array([0, 1], np.int8), size=(DRAWS, differing))
    moved_sum = flipped @ sums[sums != 0]
    moved_size = flipped @ sizes[sums != 0]
    # Clusters whose differences cancel do not matter to p, but their signs flip too: how many of each size, at random.
    for size, times in zip(*np.unique(sizes[sums == 0], return_counts=True), strict=True):
        moved_size = moved_size + size * rng.binomial(times, 0.5, size=len(flipped))
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.stack([moved_sum / moved_size, (sums.sum() - moved_sum) / (sizes.sum() - moved_size)])
    whole = np.isnan(means).any(axis=0)
    lower, upper = np.sort(np.where(whole, -np.inf, means.min(0))), np.sort(np.where(whole, np.inf, means.max(0)))
    # Random patterns count the observed one as well (Davison & Hinkley 1997).
    more = 0 if exact else 1
    total = len(lower) + more
    between = int(
        ((np.where(whole, -np.inf, means.min(0)) <= NONE) & (np.where(whole, np.inf, means.max(0)) >= -NONE)).sum()
    )
    needed = int(np.ceil((1 - coverage) * total - 1e-9)) - more
    p = (between + more) / total
    if needed < 1:  # so few draws reject nothing at this coverage
        return PairedTest(p, -np.inf, np.inf, differing)
    return PairedTest(p, settled(lower[needed - 1]), settled(upper[-needed]), differing)


def settled(limit: float) -> float:
    """A limit that is 0 but for rounding is 0, as p counts it."""
    return 0.0 if abs(limit) <= NONE else float(limit)


def every_pattern(differing: int) -> Int8[np.ndarray, "pattern differing"]:
    """All ways to flip some of the clusters, each as often as brings them to at least 2^EXACT rows."""
    patterns = np.array(list(product((0, 1), repeat=differing)), np.int8)
    return np.tile(patterns, (2 ** (EXACT - differing), 1))


def mcnemar(
    sums: Float[np.ndarray, " cluster"], sizes: Float[np.ndarray, " cluster"], coverage: float, differing: int
) -> PairedTest:
    """The clustered McNemar test, and the differences d with (sum_g S_g - d m_g)^2 <= z^2 sum_g (S_g - d m_g)^2."""
    z = float(stats.norm.ppf(0.5 + coverage / 2))
    p = float(2 * stats.norm.sf(abs(sums.sum()) / np.sqrt((sums**2).sum())))
    a = sizes.sum() ** 2 - z**2 * (sizes**2).sum()
    b = sums.sum() * sizes.sum() - z**2 * (sums * sizes).sum()
    c = sums.sum() ** 2 - z**2 * (sums**2).sum()
    inner = b * b - a * c
    if a <= 0:
        # Few clusters for so high a coverage: what is not rejected has no end, and a hole that may hold 0.
        if c <= 0 or inner <= 0 or a == 0:
            return PairedTest(p, -np.inf, np.inf, differing)
        edge = float((b - np.copysign(np.sqrt(inner), sums.sum())) / a)
        return PairedTest(p, edge, np.inf, differing) if sums.sum() > 0 else PairedTest(p, -np.inf, edge, differing)
    half = float(np.sqrt(max(0.0, inner)))
    return PairedTest(p, settled((b - half) / a), settled((b + half) / a), differing)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values; NaN (not tested) stays NaN and does not count."""
    # statsmodels' multipletests does the same but collects garbage at every call, a third of a second each.
    raw = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(raw), np.nan)
    order = np.argsort(raw)[: int((~np.isnan(raw)).sum())]
    steps = raw[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted.tolist()
