"""Limits of what candidates cost: the estimate of every candidate's cost, and a bound that the true cost is seldom above.

All candidates at once, on the items of a training set, clustered. A share: Wilson's upper limit at the effective sample size,
Student's quantile. A mean: its error on the logarithmic scale, since KL is skewed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.special import stdtrit

from override_gap.analyses.stats.clusters import Level, higher_names, levels

SURE = 0.95
"""How sure it is to be that a cost is within its bound: one-sided coverage of the limits."""
FEWEST_RELATIONS = 10
"""As in the verdict's rule: an audit of fewer relations speaks of these alone, and is read by knowledge point."""


@dataclass(frozen=True, eq=False)
class Cost:
    """A cost of every candidate: its estimate and its upper limit; of a share, the independent items that would say as much."""

    value: Float[np.ndarray, " candidate"]
    upper: Float[np.ndarray, " candidate"]
    size: Float[np.ndarray, " candidate"] | None = None


def read_levels(points: Shaped[np.ndarray, " n"]) -> list[Level]:
    """The clusterings that a limit allows for: by point, and by relation where there are ten."""
    names = higher_names(points)
    found = levels(points)
    return found if names is not None and len(set(names)) >= FEWEST_RELATIONS else found[:1]


def share_cost(
    lost: Float[np.ndarray, "n candidate"], clusterings: list[Level], train: Bool[np.ndarray, " n"], sure: float = SURE
) -> Cost:
    """Shares of answers lost in the training set, with their upper limits as if all items were as these are.

    The limit is that of the whole audit's size, n and not the training set's, so that leaving a fold out does not make the
    rule stricter than it is on all items. The design effect is the one seen, at least 1.
    """
    y, n = lost[train], len(lost)
    value = y.mean(axis=0)
    spread = value * (1 - value)
    upper, least = value, np.full(len(value), float(n))
    for level in clusterings:
        error, df = _error(y, value, level.of(train))
        with np.errstate(divide="ignore", invalid="ignore"):
            effect = np.where(spread > 0, error**2 * len(y) / spread, 1.0)
        size, q = n / np.maximum(effect, 1.0), stdtrit(df, sure)
        upper, least = np.maximum(upper, wilson_upper(value, size, q)), np.minimum(least, size)
    return Cost(value, upper, least)


def wilson_upper(
    value: Float[np.ndarray, " candidate"], size: Float[np.ndarray, " candidate"], q: float
) -> Float[np.ndarray, " candidate"]:
    """Wilson's upper limit of shares at so many independent items: (p + q^2/2n + q sqrt(p(1-p)/n + q^2/4n^2)) / (1 + q^2/n)."""
    half = q * np.sqrt(value * (1 - value) / size + q**2 / (4 * size**2))
    return (value + q**2 / (2 * size) + half) / (1 + q**2 / size)


def mean_cost(
    kl: Float[np.ndarray, "n candidate"], clusterings: list[Level], train: Bool[np.ndarray, " n"], sure: float = SURE
) -> Cost:
    """Mean KL in the training set, nats, and its upper limit m exp(q e / m), e the clustered error of m at the audit's size."""
    y = kl[train]
    with np.errstate(invalid="ignore"):
        value = y.mean(axis=0)
    finite = np.isfinite(value)
    held, upper = np.where(finite, y, 0.0), value.copy()
    mean = held.mean(axis=0)
    for level in clusterings:
        error, df = _error(held, mean, level.of(train))
        scaled = error * np.sqrt(train.sum() / len(train)) / np.where(mean > 0, mean, 1.0)
        upper = np.maximum(upper, np.where(finite, mean * np.exp(stdtrit(df, sure) * scaled), np.inf))
    return Cost(value, upper)


def _error(
    y: Float[np.ndarray, "n candidate"], mean: Float[np.ndarray, " candidate"], level: Level
) -> tuple[Float[np.ndarray, " candidate"], float]:
    """Clustered standard errors of the columns' means, and Student's degrees of freedom: clusters of equal size less one."""
    totals = np.zeros((level.count, y.shape[1]))
    np.add.at(totals, level.codes, y - mean)
    sizes = level.sizes.astype(float)
    count = sizes.sum() ** 2 / (sizes**2).sum()
    df = max(1.0, count - 1)
    return np.sqrt(level.count / max(level.count - 1, 1) * (totals**2).sum(axis=0)) / len(y), df
