"""A test of paired differences that are clustered by knowledge point, and Holm's correction for several tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from override_gap.analyses.stats.intervals import clusters

EXACT, RANDOM, DRAWS = 12, 30, 9999
"""Up to EXACT points that differ, every sign pattern is tried; up to RANDOM, DRAWS random ones."""


def paired_test(gap: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"], seed: int = 0) -> float:
    """Two-sided p of the null that paired differences are symmetric about zero, a point's items flipping sign together.

    The signs of the points' sums are flipped: in every way up to 12 points that differ, in 9,999 random ways up to 30;
    beyond that the clustered McNemar statistic of Durkalski et al. 2003, sum_p D_p / sqrt(sum_p D_p^2).
    """
    codes, count = clusters(points)
    sums = np.bincount(codes, weights=gap, minlength=count)
    sums = sums[sums != 0]
    if len(sums) == 0:
        return 1.0
    observed = abs(sums.sum())
    if len(sums) <= EXACT:
        signs = np.array(list(product((-1, 1), repeat=len(sums))))
        return float((np.abs(signs @ sums) >= observed - 1e-9).mean())
    if len(sums) <= RANDOM:
        signs = np.random.default_rng(seed).choice((-1, 1), size=(DRAWS, len(sums)))
        return float((1 + (np.abs(signs @ sums) >= observed - 1e-9).sum()) / (DRAWS + 1))
    return float(2 * stats.norm.sf(observed / np.sqrt((sums**2).sum())))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values; NaN (not tested) stays NaN and does not count."""
    # statsmodels' multipletests does the same but collects garbage at every call, a third of a second each.
    raw = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(raw), np.nan)
    order = np.argsort(raw)[: int((~np.isnan(raw)).sum())]
    steps = raw[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted.tolist()
