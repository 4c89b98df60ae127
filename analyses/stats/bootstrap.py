"""Cluster bootstrap: whole knowledge points are resampled, as item weights for a block of replicates at a time.

A statistic is a function from item weights [replicate, n] to values [replicate]; at weights of one it gives the
estimate itself, so the estimate and its replicates come from one formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int16, Integer, Shaped
from scipy import stats

from override_gap.analyses.stats.clusters import Level, clusters, levels
from override_gap.analyses.stats.effective import of_mean
from override_gap.analyses.stats.estimate import LEVEL, Estimate, missing
from override_gap.analyses.stats.intervals import ONE_POINT, with_levels

Statistic = Callable[[Float[np.ndarray, "replicate n"]], Float[np.ndarray, " replicate"]]
REPLICATES = 1000
SHARED = 0.5
"""Correlation within a cluster at which unequal clusters are counted, for statistics whose own is not known."""
BLOCK = 2**18
"""Weights (numbers) in memory at once, so that memory does not grow with the items; up to 262 items are one block."""
KEPT = 2**21
"""Draws (numbers) up to which they are kept for the next statistic: two thousand clusters a thousand times, 4 MiB."""


def bootstrap_weights(
    codes: Integer[np.ndarray, " n"], count: int, replicates: int = REPLICATES, seed: int = 0
) -> Iterator[Float[np.ndarray, "replicate n"]]:
    """How often each item is drawn in each replicate, in blocks of replicates; ``codes`` are the items' points.

    A replicate draws ``count`` points with replacement; the items of a point come and go together.
    """
    rows = max(1, BLOCK // max(len(codes), 1))
    if count * replicates <= KEPT:
        drawn = draws(count, replicates, seed)
        for first in range(0, replicates, rows):
            yield _of_items(drawn[first : first + rows], codes)
        return
    rng = np.random.default_rng(seed)
    for first in range(0, replicates, rows):
        # counted draws are multinomial; of many clusters they take a third of the time of one binomial number per cluster
        drawn_now = [
            np.bincount(rng.integers(count, size=count), minlength=count)
            for _ in range(first, min(first + rows, replicates))
        ]
        yield _of_items(np.array(drawn_now, dtype=np.int16), codes)


def _of_items(
    drawn: Int16[np.ndarray, "replicate cluster"], codes: Integer[np.ndarray, " n"]
) -> Float[np.ndarray, "replicate n"]:
    """The items' draws, replicate by replicate in memory: indexing would lay them out item by item, and sums take longer."""
    return drawn.take(codes, axis=1).astype(float)


@lru_cache(maxsize=16)
def draws(count: int, replicates: int, seed: int) -> Int16[np.ndarray, "replicate cluster"]:
    """How often each cluster is drawn in each replicate: the same for all statistics over as many clusters."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=replicates).astype(np.int16)


def effective_count(level: Level) -> float:
    """Clusters of equal size that would carry as much as these: degrees of freedom of a mean over them, plus one."""
    return of_mean(level.sizes, SHARED).df + 1


def percentile_interval(
    values: Float[np.ndarray, " replicate"], count: float, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile interval with Hesterberg's (2015) expansion for few clusters: tails at Phi(t sqrt(P/(P-1))).

    Replicates in which the statistic does not exist (NaN) are left out; where they are more than a tenth, both limits
    are NaN.
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


def logistic_interval(
    value: float, draws: Float[np.ndarray, " replicate"], count: float, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of a statistic in 0..1: symmetric in log-odds, standard error from the replicates, Student's quantile.

    Replicates at 0 or 1 are moved half a replicate inside. A value of 0 or 1 has no log-odds: it gets the percentile
    interval.
    """
    draws = draws[~np.isnan(draws)]
    edge = 0.5 / max(len(draws), 1)
    if not edge < value < 1 - edge or count < 2 or len(draws) < 2:
        return percentile_interval(draws, count, level)
    inside = np.clip(draws, edge, 1 - edge)
    error = np.log(inside / (1 - inside)).std(ddof=1)
    centre, half = np.log(value / (1 - value)), stats.t.ppf(0.5 + level / 2, count - 1) * error
    return float(1 / (1 + np.exp(half - centre))), float(1 / (1 + np.exp(-half - centre)))


def bootstrap(
    name: str,
    statistic: Statistic,
    points: Shaped[np.ndarray, " n"],
    seed: int = 0,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    units: str = "",
    caveats: tuple[str, ...] = (),
    bounded: bool = False,
) -> Estimate:
    """Estimate of a statistic over items, with an interval from resampled points.

    ``bounded`` is for statistics between 0 and 1: the interval is then made on the log-odds scale.
    """
    codes, count = clusters(points)
    if len(codes) == 0:
        return missing(name, "nothing measured", units=units)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(np.ones((1, len(codes))))[0])
        if count < 2:
            caveats = (*caveats, ONE_POINT)
            return Estimate(name, value, np.nan, np.nan, len(codes), count, units, level, caveats)
        each = []
        for clustering in levels(points):
            weights = bootstrap_weights(clustering.codes, clustering.count, replicates, seed)
            draws = np.concatenate([statistic(w) for w in weights])
            number = effective_count(clustering)
            each.append(
                logistic_interval(value, draws, number, level) if bounded else percentile_interval(draws, number, level)
            )
    if np.isnan(np.array(each)).any() and np.isfinite(value):
        caveats = (*caveats, "too few points to resample: no interval can be given")
    return with_levels(Estimate(name, value, np.nan, np.nan, len(codes), count, units, level, caveats), points, each)


def midranks(x: Float[np.ndarray, " n"], w: Float[np.ndarray, "replicate n"]) -> Float[np.ndarray, "replicate n"]:
    """Weighted mid-ranks of x: the weight below plus half the weight tied."""
    return ranker(x)(w)


def ranker(
    x: Float[np.ndarray, " n"],
) -> Callable[[Float[np.ndarray, "replicate n"]], Float[np.ndarray, "replicate n"]]:
    """`midranks` of x under weights that come in blocks: x is sorted once."""
    order = np.argsort(x, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(x[order]) != 0])
    group = np.empty(len(x), dtype=int)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(x)]))

    def ranks(w: Float[np.ndarray, "replicate n"]) -> Float[np.ndarray, "replicate n"]:
        tied = np.add.reduceat(w[:, order], starts, axis=1)
        return (np.cumsum(tied, axis=1) - tied / 2)[:, group]

    return ranks


def auc(score: Float[np.ndarray, " n"], event: Bool[np.ndarray, " n"]) -> Statistic:
    """Area under the curve: P(score of an event > score of a non-event) + half the ties (Mann-Whitney); 0.5 means no relation."""

    ranks = ranker(score)

    def statistic(w: Float[np.ndarray, "replicate n"]) -> Float[np.ndarray, " replicate"]:
        others = np.where(event, 0.0, w)
        below = ranks(others)
        return (w * event * below).sum(1) / ((w * event).sum(1) * others.sum(1))

    return statistic


def pearson(
    x: Float[np.ndarray, "replicate n"], y: Float[np.ndarray, "replicate n"], w: Float[np.ndarray, "replicate n"]
) -> Float[np.ndarray, " replicate"]:
    """Weighted correlation over the items."""
    total = w.sum(1, keepdims=True)
    dx = x - (w * x).sum(1, keepdims=True) / total
    dy = y - (w * y).sum(1, keepdims=True) / total
    return (w * dx * dy).sum(1) / np.sqrt((w * dx * dx).sum(1) * (w * dy * dy).sum(1))


def spearman(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Statistic:
    """Rank correlation; every replicate is ranked anew."""
    of_x, of_y = ranker(x), ranker(y)
    return lambda w: pearson(of_x(w), of_y(w), w)


def median(y: Float[np.ndarray, " n"]) -> Statistic:
    """Weighted median; y may hold infinity, and the median may be infinite."""
    order = np.argsort(y, kind="stable")

    def statistic(w: Float[np.ndarray, "replicate n"]) -> Float[np.ndarray, " replicate"]:
        reached = np.cumsum(w[:, order], axis=1)
        half = reached[:, -1:] / 2
        lower = y[order][(reached >= half - 1e-9).argmax(1)]
        upper = y[order][(reached > half + 1e-9).argmax(1)]
        return np.where(np.isinf(upper), upper, (lower + np.where(np.isinf(upper), 0, upper)) / 2)

    return statistic
