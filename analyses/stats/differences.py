"""The difference of two shares whose questions may share clusters, with limits made from those of either share (MOVER)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from override_gap.analyses.stats import effective
from override_gap.analyses.stats.clusters import Level, crossed, levels
from override_gap.analyses.stats.estimate import LEVEL, Estimate, missing
from override_gap.analyses.stats.intervals import (
    drop_unmeasured,
    limits_at,
    sized,
    wilson,
    with_levels,
    without_interval,
)


def correlation(
    first: Float[np.ndarray, " first"],
    first_points: Shaped[np.ndarray, " first"],
    second: Float[np.ndarray, " second"],
    second_points: Shaped[np.ndarray, " second"],
) -> float:
    """Correlation of two means whose questions may share points, from the linearised sums; 0 where one does not vary.

    Where relations are known it is that of the relations' sums, which hold what points share.
    """
    return correlation_at(first, second, levels(np.concatenate([first_points, second_points]))[-1])


def correlation_at(first: Float[np.ndarray, " first"], second: Float[np.ndarray, " second"], level: Level) -> float:
    """`correlation` at one clustering of the first sample's questions followed by the second's."""
    codes, count = level.codes, level.count
    a = np.bincount(codes[: len(first)], weights=first - first.mean(), minlength=count)
    b = np.bincount(codes[len(first) :], weights=second - second.mean(), minlength=count)
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float(np.clip((a * b).sum() / scale, -1, 1)) if scale > 1e-12 else 0.0


def difference(
    name: str,
    first: Float[np.ndarray, " first"],
    first_points: Shaped[np.ndarray, " first"],
    second: Float[np.ndarray, " second"],
    second_points: Shaped[np.ndarray, " second"],
    level: float = LEVEL,
) -> Estimate:
    """Difference of two proportions, first minus second, from the limits of each (MOVER), in -1..1.

    Newcombe 1998, Zou & Donner 2008; their correlation r comes from shared points, so that one formula serves
    paired and independent samples: low = d - sqrt(a^2 + b^2 - 2 r a b), a = p1 - l1, b = u2 - p2, and so for high.
    """
    (first, first_points), (second, second_points) = (
        drop_unmeasured(first, first_points),
        drop_unmeasured(second, second_points),
    )
    n, count = len(first) + len(second), len(set(first_points) | set(second_points))
    if len(first) == 0 or len(second) == 0:
        return missing(name, "one side has nothing measured", n, count)
    value = float(first.mean() - second.mean())
    if len(set(first_points)) < 2 or len(set(second_points)) < 2:
        note = "one knowledge point on a side: no interval can be given"
        return without_interval(name, value, n, count, level, note)
    both = np.concatenate([first_points, second_points])
    each = difference_limits(first, second, both)(level)
    return with_levels(Estimate(name, value, math.nan, math.nan, n, count, level=level), both, each, (-1.0, 1.0))


def difference_limits(
    first: Float[np.ndarray, " first"], second: Float[np.ndarray, " second"], points: Shaped[np.ndarray, " n"]
) -> Callable[[float], list[tuple[float, float]]]:
    """The limits of `difference` at any coverage, one pair per clustering of `crossed`.

    ``points`` are those of the first sample and then of the second.
    """
    value = float(first.mean() - second.mean())
    side = np.arange(len(points)) < len(first)
    found = [
        (
            wilson_at(first, clustering.of(side)),
            wilson_at(second, clustering.of(~side)),
            correlation_at(first, second, clustering),
        )
        for clustering in crossed(points)
    ]

    def at(coverage: float) -> list[tuple[float, float]]:
        each = []
        for of_first, of_second, r in found:
            (low1, high1), (low2, high2) = of_first(coverage), of_second(coverage)
            low = value - mover(first.mean() - low1, high2 - second.mean(), r)
            high = value + mover(high1 - first.mean(), second.mean() - low2, r)
            each.append((max(-1.0, low), min(1.0, high)))
        return each

    return at


def wilson_at(success: Float[np.ndarray, " n"], level: Level) -> Callable[[float], tuple[float, float]]:
    """Wilson's limits at the effective size, whatever the clustering, at any coverage; the whole of 0..1 for one cluster.

    They always hold the share itself, as the terms of a difference must. A share of 0 or 1 over relations has no variance
    that an effective size could be made of: its limits are those of the likelihood.
    """
    if level.count < 2:
        return lambda coverage: (0.0, 1.0)
    if level.higher and success.min() == success.max():
        return lambda coverage: limits_at(success, level, coverage)
    size, df = sized(success, level)
    successes = float(success.mean()) * size
    return lambda coverage: wilson(successes, size, coverage, effective.quantile(df, coverage))


def mover(a: float, b: float, r: float) -> float:
    """Half-width of a difference on one side from the half-widths of its two terms."""
    return float(np.sqrt(max(0.0, a * a + b * b - 2 * r * a * b)))
