"""Does a policy override more than uniform scaling that costs as much? Cost: unrelated answers lost, or KL to the base there.

The cost is interpolated between the uniform gains (its running maximum, since a larger gain can only cost more), the gain
that costs as much as the policy is read off, and override is interpolated at that gain. Mean KL grows about with the square
of the gain, so its root is what is interpolated. Intervals repeat all of this on resampled clusters, the same for both costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import stats
from scipy.interpolate import PchipInterpolator

from override_gap.analyses.dose_response import gains
from override_gap.analyses.readings import RunFrame, Table, gain_of, once_per_run, points_of, values
from override_gap.analyses.refusals import unpriced
from override_gap.analyses.stats.bootstrap import REPLICATES, bootstrap_weights, effective_count, percentile_interval
from override_gap.analyses.stats.clusters import Level, levels
from override_gap.analyses.stats.estimate import Estimate, json_number
from override_gap.analyses.stats.intervals import with_levels

STEPS = 10
RETENTION, KL = "retention", "kl"
COSTS = (RETENTION, KL)
NEAR_END = 0.1
"""A share of replicates beyond the uniform gains above which a comparison says so."""
OUTSIDE = {
    RETENTION: "retention lies outside that of the uniform gains; the nearest gain is used",
    KL: "KL lies outside that of the uniform gains; the nearest gain is used",
}


@dataclass(frozen=True)
class Matched:
    """Override of a condition minus override of uniform scaling at the same cost; p is two-sided, `above` one-sided.

    `above` is p of "the condition overrides more than its uniform match". Both invert the interval of `difference`.
    """

    condition: str
    cost: str
    gain: float
    difference: Estimate
    above: float

    @property
    def p(self) -> float:
        """Two-sided p."""
        return min(1.0, 2 * min(self.above, 1 - self.above))

    def as_json(self) -> dict[str, Any]:
        """Row of ``matched_retention.comparisons`` or ``matched_retention.kl``."""
        return {
            "condition": self.condition,
            "matched_gain": json_number(self.gain),
            "difference": self.difference.as_json(),
            "p": json_number(self.p),
            "note": "; ".join(self.difference.caveats),
        }


@dataclass(frozen=True)
class Curves:
    """Override and cost of every condition, one row per replicate, the first of which is the data themselves.

    The first `len(sweep)` columns are the uniform gains, ascending; `count` is the effective number of clusters.
    """

    sweep: Float[np.ndarray, " gain"]
    override: Float[np.ndarray, "replicate condition"]
    costs: dict[str, Float[np.ndarray, "replicate condition"]]
    count: float


@once_per_run
def grid(run: RunFrame, split: str, column: str = "success_top1") -> tuple[Table, Shaped[np.ndarray, " n"]]:
    """top1 success (or another column) as items x conditions (NaN where unmeasured), and the items' points."""
    measured = run.measured
    # the rows of `select` in few columns: to copy all of them takes ten times as long
    rows = measured.loc[measured["split"] == split, ["item", "condition", "point", "cluster", column]]
    rows = rows.assign(value=values(rows[column]))
    wide = rows.pivot(index="item", columns="condition", values="value")
    return wide, points_of(rows.drop_duplicates("item").set_index("item").reindex(wide.index))


def shares(
    wide: Table, conditions: list[str], w: Float[np.ndarray, "replicate n"]
) -> Float[np.ndarray, "replicate condition"]:
    """Mean of each condition's values (success rate, mean KL) under item weights w."""
    success = wide[conditions].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (w @ np.nan_to_num(success)) / (w @ (~np.isnan(success)).astype(float))


def along(
    sweep: Float[np.ndarray, " gain"],
    retention: Float[np.ndarray, "replicate gain"],
    override: Float[np.ndarray, "replicate gain"],
    target: Float[np.ndarray, " replicate"],
) -> tuple[Float[np.ndarray, " replicate"], Float[np.ndarray, " replicate"], Bool[np.ndarray, " replicate"]]:
    """The largest gain whose retention reaches the target, the override there, and whether the target is out of range.

    The gains of the sweep ascend.
    """
    floor = np.minimum.accumulate(retention, axis=1)
    enough = floor >= target[:, None] - 1e-12
    last = enough.sum(1) - 1
    outside = (last < 0) | (last == len(sweep) - 1) & (floor[:, -1] > target + 1e-12)
    left = np.clip(last, 0, len(sweep) - 1)
    right = np.minimum(left + 1, len(sweep) - 1)
    replicate = np.arange(len(target))
    drop = floor[replicate, left] - floor[replicate, right]
    step = np.where(drop > 1e-12, (floor[replicate, left] - target) / np.where(drop > 1e-12, drop, 1), 0.0)
    step = np.clip(step, 0, 1)
    at = sweep[left] + step * (sweep[right] - sweep[left])
    return at, override[replicate, left] + step * (override[replicate, right] - override[replicate, left]), outside


def refined(
    sweep: Float[np.ndarray, " gain"], curves: Float[np.ndarray, "replicate gain"]
) -> tuple[Float[np.ndarray, " fine"], Float[np.ndarray, "replicate fine"]]:
    """Sweep and curves with ``STEPS`` steps between neighbouring gains, by monotone cubics (PCHIP).

    Straight lines between the gains lie below a curve that bends down, and would favour every policy.
    """
    steps = np.arange(STEPS) / STEPS
    fine = np.r_[(sweep[:-1, None] + np.diff(sweep)[:, None] * steps).ravel(), sweep[-1]]
    return fine, PchipInterpolator(sweep, curves, axis=1)(fine)


@once_per_run
def matched(run: RunFrame, seed: int = 0, replicates: int = REPLICATES) -> dict[str, list[Matched]] | None:
    """By cost, every condition that is no uniform gain against uniform scaling at equal cost.

    None where the run lacks retention items or two uniform gains. At equal KL there is none where the run holds no KL.
    """
    (conflict, conflict_points), (retained, retained_points) = grid(run, "conflict"), grid(run, "retention")
    sweep = {gain: name for gain, name in gains(run).items() if name in conflict and name in retained}
    if len(sweep) < 2 or len(retained) == 0:
        return None
    without = unpriced(run)
    others = [
        name
        for name in run.conditions
        if gain_of(name) is None and name in conflict and name in retained and name not in without
    ]
    names, n = [*sweep.values(), *others], len(conflict)
    kl, _ = grid(run, "retention", "kl")
    points = np.concatenate([conflict_points, retained_points])
    every = []
    for level in levels(points):
        if level.count < 2:
            return None
        blocks = [
            (shares(conflict, names, w[:, :n]), shares(retained, names, w[:, n:]), shares(kl, names, w[:, n:]))
            for w in chain([np.ones((1, len(points)))], bootstrap_weights(level.codes, level.count, replicates, seed))
        ]
        override, kept, divergence = map(np.vstack, zip(*blocks, strict=True))
        first = np.arange(len(points)) < n
        count = min(_effective(level.of(first)), _effective(level.of(~first)))
        # the root of a mean KL, negated, falls with the gain as retention does
        costs = {RETENTION: kept, KL: -np.sqrt(np.maximum(divergence, 0.0))}
        every.append(Curves(np.array(list(sweep)), override, costs, count))
    sizes = {RETENTION: len(retained), KL: 0}
    return {cost: _at_equal(cost, every, others, conflict_points, sizes[cost], seed) for cost in COSTS}


def _effective(level: Level) -> float:
    """The effective number of clusters; one is one."""
    return effective_count(level) if level.count > 1 else float(level.count)


def _at_equal(
    cost: str,
    every: Sequence[Curves],
    others: Sequence[str],
    points: Shaped[np.ndarray, " n"],
    size: int,
    seed: int,
) -> list[Matched]:
    """The comparisons at one equal cost; `every` holds one clustering's curves each, `size` the number of yes-or-no items."""
    gaps = [_gaps(curves, cost, size, seed) for curves in every]
    comparisons = []
    for number, condition in enumerate(others):
        at, outside, _ = (part[:, number] for part in gaps[0])
        draws = [of_level[2][:, number] for of_level in gaps]
        value = float(draws[0][0])
        if math.isnan(value):
            continue
        caveats = []
        if outside[0]:
            caveats.append(OUTSIDE[cost])
        elif outside[1:].mean() > NEAR_END:
            caveats.append(
                f"{'retention' if cost == RETENTION else 'KL'} is near the end of the range of the uniform gains"
            )
        sweep = every[0].sweep
        if 0 < at[0] < 1 and not ((sweep > 0) & (sweep < 1)).any():
            caveats.append("no gain between 0 and 1 was read, so the match is interpolated there")
        limits, above = zip(
            *(_test(of_level[1:], c.count) for of_level, c in zip(draws, every, strict=True)), strict=True
        )
        if min(c.count for c in every) < 2:
            caveats.append("one knowledge point only: no interval can be given")
        elif math.isnan(above[0]) or all(low == high for low, high in limits):
            caveats.append("no variation between points: the test says nothing")
        named = "override at matched retention" if cost == RETENTION else "override at matched KL"
        estimate = Estimate(named, value, math.nan, math.nan, len(points), len(set(points)), caveats=tuple(caveats))
        # the p that speaks least for either sign
        least = max(above, key=lambda p: min(p, 1 - p) if not math.isnan(p) else 1.0)
        comparisons.append(Matched(condition, cost, float(at[0]), with_levels(estimate, points, limits), least))
    return comparisons


def _gaps(curves: Curves, cost: str, size: int, seed: int) -> tuple[Float[np.ndarray, "replicate other"], ...]:
    """The matched gain, whether it is out of range (1) or not (0), and the difference in override: per replicate and policy."""
    of_sweep = len(curves.sweep)
    override, costs = curves.override[:, :of_sweep], curves.costs[cost][:, :of_sweep]
    # A replicate without any reading at some gain has no curve; its difference is NaN, so it is left out.
    whole: Bool[np.ndarray, " replicate"] = ~np.any(np.isnan(np.hstack([override, costs])), axis=1)
    axis, override = refined(curves.sweep, np.where(whole[:, None], override, 0.0))
    floor = np.minimum.accumulate(np.where(whole[:, None], costs, 0.0), axis=1)
    _, floor = refined(curves.sweep, floor)
    # Retention is known to one item: a policy and a gain that lose the same items may still differ by up to one, and
    # ties stay ties when resampled. So each replicate moves the target retention by up to one item either way.
    jitter = np.r_[0.0, np.random.default_rng([seed, 1]).uniform(-1, 1, len(whole) - 1)] / size if size else 0.0
    parts = []
    for other in range(of_sweep, curves.override.shape[1]):
        target = curves.costs[cost][:, other] - jitter
        at, matched_override, outside = along(axis, floor, override, np.nan_to_num(target))
        known = whole & ~np.isnan(target)
        parts.append((at, outside.astype(float), np.where(known, curves.override[:, other] - matched_override, np.nan)))
    columns = zip(*parts, strict=True) if parts else ([], [], [])
    return tuple(np.stack(list(column), axis=1) if parts else np.zeros((len(whole), 0)) for column in columns)


def _test(draws: Float[np.ndarray, " replicate"], count: float) -> tuple[tuple[float, float], float]:
    """The 95% interval of resampled differences, and the one-sided p of "above 0" that inverts it; 1/2 without variation."""
    limits = percentile_interval(draws, count)
    if math.isnan(limits[0]):
        return limits, math.nan
    draws = draws[~np.isnan(draws)]
    if draws.std() < 1e-12:
        return limits, 0.5
    # the interval's tail, Phi(t sqrt(P/(P-1))), solved for t's p; a draw of 0 speaks for neither side
    tail = (np.sum(draws < -1e-12) + np.sum(np.abs(draws) <= 1e-12) / 2) / len(draws)
    # no p is smaller than the replicates can tell
    tail = np.clip(tail, 1 / (len(draws) + 1), len(draws) / (len(draws) + 1))
    return limits, float(stats.t.cdf(stats.norm.ppf(tail) * np.sqrt((count - 1) / count), count - 1))
