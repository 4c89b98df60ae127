"""Intervals and tests of shares, means and differences for questions that share knowledge points (clusters).

These have closed forms. A statistic without one is resampled, whole points at a time, in ``bootstrap``.
Arrays: outcomes and points are [n], one entry per question; a point is any label; NaN stands for "not measured".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer, Shaped
from scipy import stats
from scipy.optimize import root_scalar

from override_gap.analyses.stats.estimate import LEVEL, Estimate, missing

Outcomes = Sequence | Shaped[np.ndarray, " n"]
"""Outcomes or points of n questions, as an array or a list."""
ONE_POINT = "one knowledge point only: no interval can be given"


def clusters(points: Outcomes) -> tuple[Integer[np.ndarray, " n"], int]:
    """Each question's knowledge point as an integer code, and the number of points."""
    codes, names = pd.factorize(np.asarray(points, dtype=object))
    return codes, len(names)


def drop_unmeasured(
    outcome: Outcomes, points: Outcomes
) -> tuple[Float[np.ndarray, " measured"], Shaped[np.ndarray, " measured"]]:
    """The outcomes that are not NaN, and their points."""
    outcome = np.asarray(outcome, dtype=float)
    keep = ~np.isnan(outcome)
    return outcome[keep], np.asarray(points, dtype=object)[keep]


def complete_cases(*columns: Shaped[np.ndarray, " n"]) -> list[Shaped[np.ndarray, " complete"]]:
    """The questions in which no column is NaN; the last column holds the points and is not looked at."""
    *numbers, points = columns
    keep = ~np.any([np.isnan(column) for column in numbers], axis=0)
    return [column[keep] for column in numbers] + [np.asarray(points, dtype=object)[keep]]


def wilson(successes: float, n: float, level: float = LEVEL, quantile: float | None = None) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); ``quantile`` replaces the normal one, for few clusters.

    (p + q^2/2n +- q sqrt(p(1-p)/n + q^2/4n^2)) / (1 + q^2/n)
    """
    if n <= 0:
        return float("nan"), float("nan")
    q = float(stats.norm.ppf(0.5 + level / 2)) if quantile is None else quantile
    p = successes / n
    centre = (p + q * q / (2 * n)) / (1 + q * q / n)
    half = q / (1 + q * q / n) * math.sqrt(p * (1 - p) / n + q * q / (4 * n * n))
    # At p = 0 and p = 1 the formula gives the bound itself; rounding must not move it inside.
    return (0.0 if p <= 0 else max(0.0, centre - half)), (1.0 if p >= 1 else min(1.0, centre + half))


def mean_variance(outcome: Float[np.ndarray, " n"], codes: Integer[np.ndarray, " n"], count: int) -> float:
    """Variance of a mean of clustered values: P/(P-1) sum_p (sum_{i in p} (y_i - mean))^2 / n^2 (linearisation)."""
    sums = np.bincount(codes, weights=outcome - outcome.mean(), minlength=count)
    return float(count / (count - 1) * (sums**2).sum() / len(outcome) ** 2)


def effective_size(success: Float[np.ndarray, " n"], codes: Integer[np.ndarray, " n"], count: int) -> float:
    """Independent questions that would carry as much as these: n / design effect (Kish 1965), at most n.

    The design effect is the clustered variance over p(1-p)/n. Where the rarer outcome was seen in few points, that
    ratio says little, so it is kept above 1 + (m - 1)/(1 + k), k the points that show the rarer outcome and m the
    size of the mean item's point: with no variation (k = 0) each point counts about once.
    """
    n, p = len(success), float(success.mean())
    sizes = np.bincount(codes, minlength=count)
    rarer = success > 0.5 if p <= 0.5 else success < 0.5
    k = len(np.unique(codes[rarer]))
    floor = 1 + ((sizes**2).sum() / n - 1) / (1 + k)
    seen = mean_variance(success, codes, count) / (p * (1 - p) / n) if 0 < p < 1 else 1.0
    return n / max(floor, seen, 1.0)


def limits(
    success: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"], level: float = LEVEL
) -> tuple[float, float]:
    """Wilson limits at the effective size, with Student's quantile for the number of points (Korn & Graubard 1998)."""
    codes, count = clusters(points)
    size = effective_size(success, codes, count)
    return wilson(float(success.mean()) * size, size, level, float(stats.t.ppf(0.5 + level / 2, count - 1)))


def without_interval(name: str, value: float, n: int, points: int, level: float, why: str, units: str = "") -> Estimate:
    """An estimate whose points are too few for an interval, with the reason as its caveat."""
    return Estimate(name, value, math.nan, math.nan, n, points, units, level, (why,))


def proportion(name: str, success: Outcomes, points: Outcomes, level: float = LEVEL) -> Estimate:
    """Share of successes with a Wilson interval that allows for clustering; unmeasured (NaN) outcomes are left out."""
    success, points = drop_unmeasured(success, points)
    n, count = len(success), len(set(points))
    if n == 0:
        return missing(name, "nothing measured")
    if count < 2:
        return without_interval(name, float(success.mean()), n, count, level, ONE_POINT)
    low, high = limits(success, points, level)
    return Estimate(name, float(success.mean()), low, high, n, count, level=level)


def mean(name: str, outcome: Outcomes, points: Outcomes, level: float = LEVEL, units: str = "") -> Estimate:
    """Mean with Student's interval from the clustered variance, points - 1 degrees of freedom."""
    outcome, points = drop_unmeasured(outcome, points)
    codes, count = clusters(points)
    if len(outcome) == 0:
        return missing(name, "nothing measured", units=units)
    value = float(outcome.mean())
    if count < 2:
        return without_interval(name, value, len(outcome), count, level, ONE_POINT, units)
    half = stats.t.ppf(0.5 + level / 2, count - 1) * np.sqrt(mean_variance(outcome, codes, count))
    return Estimate(name, value, value - half, value + half, len(outcome), count, units, level)


def correlation(
    first: Float[np.ndarray, " first"],
    first_points: Shaped[np.ndarray, " first"],
    second: Float[np.ndarray, " second"],
    second_points: Shaped[np.ndarray, " second"],
) -> float:
    """Correlation of two means whose questions may share points, from the linearised sums; 0 where one does not vary."""
    codes, count = clusters(np.concatenate([first_points, second_points]))
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
    low1, high1 = limits(first, first_points, level)
    low2, high2 = limits(second, second_points, level)
    r = correlation(first, first_points, second, second_points)
    p1, p2 = first.mean(), second.mean()
    low = value - mover(p1 - low1, high2 - p2, r)
    high = value + mover(high1 - p1, p2 - low2, r)
    return Estimate(name, value, max(-1.0, low), min(1.0, high), n, count, level=level)


def mover(a: float, b: float, r: float) -> float:
    """Half-width of a difference on one side from the half-widths of its two terms."""
    return float(np.sqrt(max(0.0, a * a + b * b - 2 * r * a * b)))


def score_test(
    outcome: Float[np.ndarray, " n"], predictor: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"]
) -> tuple[float, float]:
    """Score test of no association, clustered by points; returns (t, two-sided p).

    U = sum (x - mean x)(y - mean y); t = U / sqrt(P/(P-1) sum_p U_p^2). Variance is taken under the null, so
    perfect separation gives a finite t; no variation gives t = 0, p = 1.
    """
    codes, count = clusters(points)
    if count < 2 or len(outcome) < 2:
        return float("nan"), float("nan")
    terms = (predictor - predictor.mean()) * (outcome - outcome.mean())
    spread = np.sqrt(count / (count - 1) * (np.bincount(codes, weights=terms, minlength=count) ** 2).sum())
    if spread < 1e-12:
        return 0.0, 1.0
    t = float(terms.sum() / spread)
    return t, float(2 * stats.t.sf(abs(t), count - 1))


def share_test(success: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"], null: float) -> tuple[float, float]:
    """One-sided clustered tests of a share against ``null``; returns (p of "share is above", p of "share is below").

    Score statistic at the effective size; Student's distribution for the number of points.
    """
    success, points = drop_unmeasured(success, points)
    codes, count = clusters(points)
    if count < 2:
        return float("nan"), float("nan")
    size = effective_size(success, codes, count)
    t = (success.mean() - null) / np.sqrt(null * (1 - null) / size)
    return float(stats.t.sf(t, count - 1)), float(stats.t.cdf(t, count - 1))


def one_sided(interval: Callable[[float], tuple[float, float]], null: float) -> float:
    """One-sided p of "the value is above ``null``" by inverting an interval: the alpha at which a limit meets ``null``.

    ``interval(level)`` gives (low, high); p lies in [1e-6, 1 - 1e-6].
    """
    small, half = 1e-6, 0.5 - 1e-6
    low, high = interval(1 - 2 * half)
    if np.isnan(low) or np.isnan(high):
        return float("nan")
    side = 0 if (low + high) / 2 > null else 1

    def gap(alpha: float) -> float:
        return interval(1 - 2 * alpha)[side] - null

    near, far = gap(half), gap(small)
    if near * far > 0:
        alpha = small if abs(near) > 1e-9 else half
    else:
        alpha = float(root_scalar(gap, bracket=(small, half), xtol=1e-7).root)
    return alpha if side == 0 else 1 - alpha
