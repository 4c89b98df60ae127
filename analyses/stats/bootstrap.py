"""Cluster bootstrap: whole knowledge points are drawn; a matrix of weights holds as many replicates as fit a block.

A statistic is a function from item weights [replicate, n] to values [replicate]; with weights of one it is the
estimate itself, so estimate and replicates can never be two formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from override_gap.analyses.stats.estimate import LEVEL, Estimate, missing
from override_gap.analyses.stats.intervals import clusters

Array = np.ndarray
Statistic = Callable[[Array], Array]
REPLICATES = 1000
#: Weights in memory at once, in numbers: memory does not grow with the items. Audits of up to a thousand items are one block.
BLOCK = 2**20


def bootstrap_weights(codes: Array, count: int, replicates: int = REPLICATES, seed: int = 0) -> Iterator[Array]:
    """How often each item is drawn, [replicate, n] in blocks of replicates, from its point's code [n].

    A replicate draws ``count`` points with replacement; the items of a point come and go together.
    """
    draw, shares = np.random.default_rng(seed), np.full(count, 1 / count)
    rows = max(1, BLOCK // max(len(codes), 1))
    for first in range(0, replicates, rows):
        drawn = draw.multinomial(count, shares, size=min(rows, replicates - first))
        yield drawn[:, codes].astype(float)


def expanded(values: Array, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval with Hesterberg's (2015) expansion for few clusters: tails at Phi(t sqrt(P/(P-1))).

    Replicates in which the statistic does not exist (NaN) are left out; more than a tenth of them, and there is
    no interval.
    """
    values = values[~np.isnan(values)] if np.isnan(values).mean() <= 0.1 else values[:0]
    if count < 2 or len(values) == 0:
        return float("nan"), float("nan")
    tail = stats.norm.cdf(stats.t.ppf((1 - level) / 2, count - 1) * np.sqrt(count / (count - 1)))
    # "lower" and "higher" keep an infinite replicate from turning its finite neighbour into NaN.
    return (
        float(np.quantile(values, tail, method="lower")),
        float(np.quantile(values, 1 - tail, method="higher")),
    )


def logistic_interval(value: float, draws: Array, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a share-like statistic: symmetric on the log-odds scale, spread from the draws, Student's quantile.

    Draws at 0 or 1 are kept half a draw inside. A value of 0 or 1 has no log-odds: the percentile interval is given.
    """
    draws = draws[~np.isnan(draws)]
    edge = 0.5 / max(len(draws), 1)
    if not edge < value < 1 - edge or count < 2 or len(draws) < 2:
        return expanded(draws, count, level)
    inside = np.clip(draws, edge, 1 - edge)
    error = np.log(inside / (1 - inside)).std(ddof=1)
    centre, half = np.log(value / (1 - value)), stats.t.ppf(0.5 + level / 2, count - 1) * error
    return float(1 / (1 + np.exp(half - centre))), float(1 / (1 + np.exp(-half - centre)))


def bootstrap(
    name: str,
    statistic: Statistic,
    points: Array,
    seed: int = 0,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    units: str = "",
    caveats: tuple[str, ...] = (),
    bounded: bool = False,
) -> Estimate:
    """Estimate of a statistic over items with points [n], interval by drawing points.

    ``bounded`` is for statistics between 0 and 1, whose interval is then made on the log-odds scale.
    """
    codes, count = clusters(points)
    if len(codes) == 0:
        return missing(name, "nothing measured", units=units)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(np.ones((1, len(codes))))[0])
        if count < 2:
            caveats = (*caveats, "one knowledge point only: no interval can be given")
            return Estimate(name, value, np.nan, np.nan, len(codes), count, units, level, caveats)
        draws = np.concatenate([statistic(w) for w in bootstrap_weights(codes, count, replicates, seed)])
    low, high = logistic_interval(value, draws, count, level) if bounded else expanded(draws, count, level)
    if np.isnan(low) and np.isfinite(value):
        caveats = (*caveats, "too few points to resample: no interval can be given")
    return Estimate(name, value, low, high, len(codes), count, units, level, caveats)


def average(y: Array) -> Statistic:
    """Weighted mean of y [n]."""
    return lambda w: w @ y / w.sum(1)


def spread(y: Array) -> Statistic:
    """Standard deviation of y [n], with n - 1."""

    def statistic(w: Array) -> Array:
        total = w.sum(1)
        centre = w @ y / total
        return np.sqrt(np.maximum(0.0, w @ (y * y) - total * centre**2) / (total - 1))

    return statistic


def variation(y: Array) -> Statistic:
    """Coefficient of variation of y [n]: standard deviation over |mean|."""
    return lambda w: spread(y)(w) / np.abs(average(y)(w))


def midranks(x: Array, w: Array) -> Array:
    """Weighted mid-ranks [replicate, n] of x [n]: weight below plus half the weight tied."""
    order = np.argsort(x, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(x[order]) != 0])
    tied = np.add.reduceat(w[:, order], starts, axis=1)
    below = np.cumsum(tied, axis=1) - tied / 2
    group = np.empty(len(x), dtype=int)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(x)]))
    return below[:, group]


def auc(score: Array, event: Array) -> Statistic:
    """P(score of an event > score of a non-event) + half the ties (Mann-Whitney); 0.5 means no relation."""
    event = np.asarray(event, dtype=bool)

    def statistic(w: Array) -> Array:
        others = np.where(event, 0.0, w)
        below = midranks(score, others)
        return (w * event * below).sum(1) / ((w * event).sum(1) * others.sum(1))

    return statistic


def pearson(x: Array, y: Array, w: Array) -> Array:
    """Weighted correlation along the last axis; x and y are [n] or [replicate, n]."""
    total = w.sum(1, keepdims=True)
    dx = x - (w * x).sum(1, keepdims=True) / total
    dy = y - (w * y).sum(1, keepdims=True) / total
    return (w * dx * dy).sum(1) / np.sqrt((w * dx * dx).sum(1) * (w * dy * dy).sum(1))


def spearman(x: Array, y: Array) -> Statistic:
    """Rank correlation; ranks are taken anew in every replicate."""
    return lambda w: pearson(midranks(x, w), midranks(y, w), w)


def median(y: Array) -> Statistic:
    """Weighted median of y [n]; y may hold infinity, which then may be the median."""
    order = np.argsort(y, kind="stable")

    def statistic(w: Array) -> Array:
        reached = np.cumsum(w[:, order], axis=1)
        half = reached[:, -1:] / 2
        lower = y[order][(reached >= half - 1e-9).argmax(1)]
        upper = y[order][(reached > half + 1e-9).argmax(1)]
        return np.where(np.isinf(upper), upper, (lower + np.where(np.isinf(upper), 0, upper)) / 2)

    return statistic
