"""Intervals and tests of shares, means and differences for questions that share knowledge points (clusters).

These have closed forms. A statistic without one is resampled, whole points at a time, in ``bootstrap``.
Arrays: outcomes and points are [n], one entry per question; a point is any label; NaN stands for "not measured".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Integer, Shaped
from scipy import stats
from scipy.optimize import root_scalar

from override_gap.analyses.stats import beta_binomial, effective
from override_gap.analyses.stats.by_content import by_content
from override_gap.analyses.stats.clusters import Level, Outcomes, clusters, crossed, levels, only_cluster
from override_gap.analyses.stats.estimate import LEVEL, Estimate, missing
from override_gap.analyses.stats.score import score_test as score_test

ONE_POINT = "one knowledge point only: no interval can be given"
ONE_CLUSTER = "all questions are of one relation or cluster ({}): the interval speaks of it alone"
FEW_CLUSTERS = 8
"""With fewer relations than this, an interval over relations is as wide as it is because they are few; it says so."""


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


def shared_correction(values: Float[np.ndarray, " n"], level: Level) -> effective.Correction:
    """Scale and degrees of freedom of the clustered variance of a mean, at the correlation that the values show."""
    rho = effective.intraclass(values - values.mean(), level.codes, level.count)
    return effective.of_mean(level.sizes, rho)


def sized(success: Float[np.ndarray, " n"], level: Level) -> tuple[float, float]:
    """Independent questions that would carry as much as these, n / design effect (Kish 1965), and degrees of freedom.

    The design effect is the clustered variance over p(1-p)/n. Where the rarer outcome was seen in few clusters, that
    ratio says little, so it is kept above 1 + (m - 1)/(1 + k), k the clusters that show the rarer outcome and m the
    size of the mean item's cluster: with no variation (k = 0) each cluster counts about once.
    """
    n, p = len(success), float(success.mean())
    sizes = level.sizes
    rarer = success > 0.5 if p <= 0.5 else success < 0.5
    k = len(np.unique(level.codes[rarer]))
    floor = 1 + ((sizes**2).sum() / n - 1) / (1 + k)
    shared = shared_correction(success, level)
    seen = 1.0
    if 0 < p < 1:
        sums = np.bincount(level.codes, weights=success - p, minlength=level.count)
        seen = shared.scale * float((sums**2).sum()) / n / (p * (1 - p))
    return n / max(floor, seen, 1.0), shared.df


def limits_at(success: Float[np.ndarray, " n"], level: Level, coverage: float = LEVEL) -> tuple[float, float]:
    """Limits of a share at one clustering.

    By knowledge point: Wilson's at the effective size, Student's quantile at the effective degrees of freedom (Korn &
    Graubard 1998). By relation, of which there are few: from the likelihood of `beta_binomial`.
    """
    if level.higher:
        return beta_binomial.limits(success, level.codes, level.count, coverage)
    size, df = sized(success, level)
    return wilson(float(success.mean()) * size, size, coverage, effective.quantile(df, coverage))


def limits(
    success: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"], level: float = LEVEL
) -> tuple[float, float]:
    """Limits of a share, as a term of another statistic: on each side the wider by knowledge point and by relation."""
    return widest([limits_at(success, part, level) for part in levels(points)])


def widest(intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The lowest lower and the highest upper limit; NaN where any is NaN."""
    low, high = np.array(intervals).T
    return float(low.min()), float(high.max())


def two_way(
    value: float, intervals: Sequence[tuple[float, float]], bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float]:
    """The interval that allows for points and relations that cross; ``intervals`` are those of ``crossed(points)``.

    On each side a^2 = a_point^2 + a_relation^2 - a_both^2, since the clustered variances add up so (Cameron, Gelbach & Miller
    2011), and never less than the wider of the first two. Without a third interval these two are all there is.
    """
    low, high = widest(intervals[:2])
    if len(intervals) < 3:
        return low, high
    sides = np.abs(np.array(intervals) - value) ** 2
    below, above = np.sqrt(np.maximum(sides[0] + sides[1] - sides[2], 0.0))
    return max(bounds[0], min(low, value - below)), min(bounds[1], max(high, value + above))


def with_levels(
    estimate: Estimate,
    points: Outcomes,
    intervals: Sequence[tuple[float, float]],
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """The estimate with its interval by point and by relation, both of them apart, and what to say of relations.

    ``intervals`` are those of ``levels(points)``, of which the wider is read, or of ``crossed(points)``: see `two_way`.
    """
    found = levels(points)
    low, high = two_way(estimate.value, intervals, bounds)
    caveats = estimate.caveats
    if name := only_cluster(points):
        caveats = (*caveats, ONE_CLUSTER.format(name))
    if len(found) == 1:
        return replace(estimate, low=low, high=high, caveats=caveats)
    if found[1].count < FEW_CLUSTERS:
        caveats = (*caveats, f"only {found[1].count} relations (clusters): few to judge others by")
    return replace(
        estimate,
        low=low,
        high=high,
        caveats=caveats,
        clusters=found[1].count,
        by_point=intervals[0],
        by_cluster=intervals[1],
    )


def without_interval(name: str, value: float, n: int, points: int, level: float, why: str, units: str = "") -> Estimate:
    """An estimate whose points are too few for an interval, with the reason as its caveat."""
    return Estimate(name, value, math.nan, math.nan, n, points, units, level, (why,))


def proportion(name: str, success: Outcomes, points: Outcomes, level: float = LEVEL) -> Estimate:
    """Share of successes with a Wilson interval that allows for clustering; unmeasured (NaN) outcomes are left out."""
    return replace(_share(np.asarray(success, dtype=float), np.asarray(points, dtype=object), level), name=name)


@by_content(4096)
def _share(success: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"], level: float) -> Estimate:
    success, points = drop_unmeasured(success, points)
    n, count = len(success), len(set(points))
    if n == 0:
        return missing("", "nothing measured")
    if count < 2:
        return without_interval("", float(success.mean()), n, count, level, ONE_POINT)
    estimate = without_interval("", float(success.mean()), n, count, level, "")
    each = [limits_at(success, clustering, level) for clustering in crossed(points)]
    return with_levels(replace(estimate, caveats=()), points, each, (0.0, 1.0))


def mean(name: str, outcome: Outcomes, points: Outcomes, level: float = LEVEL, units: str = "") -> Estimate:
    """Mean with Student's interval from the clustered variance, at its effective degrees of freedom."""
    outcome, points = drop_unmeasured(outcome, points)
    _, count = clusters(points)
    if len(outcome) == 0:
        return missing(name, "nothing measured", units=units)
    value = float(outcome.mean())
    if count < 2:
        return without_interval(name, value, len(outcome), count, level, ONE_POINT, units)
    each = []
    for clustering in crossed(points):
        error, df = mean_error(outcome, clustering)
        half = effective.quantile(df, level) * error
        each.append((value - half, value + half))
    return with_levels(Estimate(name, value, math.nan, math.nan, len(outcome), count, units, level), points, each)


def mean_error(outcome: Float[np.ndarray, " n"], level: Level) -> tuple[float, float]:
    """Standard error of a clustered mean and its degrees of freedom."""
    shared = shared_correction(outcome, level)
    sums = np.bincount(level.codes, weights=outcome - outcome.mean(), minlength=level.count)
    return float(np.sqrt(shared.scale * (sums**2).sum())) / len(outcome), shared.df


def share_test(success: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"], null: float) -> tuple[float, float]:
    """One-sided clustered tests of a share against ``null``; returns (p of "share is above", p of "share is below").

    By point: score statistic at the effective size, Student's distribution at the effective degrees of freedom. By
    relation: likelihood ratio of `beta_binomial`. The larger p of the two counts.
    """
    success, points = drop_unmeasured(success, points)
    if clusters(points)[1] < 2:
        return float("nan"), float("nan")
    pairs = []
    for level in levels(points):
        if level.higher:
            pairs.append(beta_binomial.share_test(success, level.codes, level.count, null))
            continue
        size, df = sized(success, level)
        t = (success.mean() - null) / np.sqrt(null * (1 - null) / size)
        pairs.append((float(stats.t.sf(t, df)), float(stats.t.cdf(t, df))))
    above, below = zip(*pairs, strict=True)
    return max(above), max(below)


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

    # A union of intervals can hold the null at every level: it then speaks for neither side.
    sign = 1 if side == 0 else -1
    if sign * gap(half) <= 0:
        alpha = half
    elif sign * gap(small) >= 0:
        alpha = small
    else:
        alpha = float(root_scalar(gap, bracket=(small, half), xtol=1e-7).root)
    return alpha if side == 0 else 1 - alpha
