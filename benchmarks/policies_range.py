"""A policy's strengths against uniform scaling over the whole range of costs: what does each override at the cost of a gain?

Both curves are interpolated in the same way (`analyses/equal_cost.py`), each read at its largest strength that costs no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Bool, Float

from override_gap.analyses.dose_response import gains
from override_gap.analyses.equal_cost import KL, RETENTION, along, grid, refined, shares
from override_gap.analyses.readings import BASE, RunFrame
from override_gap.analyses.stats.bootstrap import bootstrap_weights, effective_count, percentile_interval
from override_gap.analyses.stats.clusters import levels

AT = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
"""The uniform gains at whose costs policies are compared."""


@dataclass(frozen=True)
class Ahead:
    """Override of a policy minus that of uniform scaling at one cost, as shares, with its 95% interval."""

    value: float
    low: float
    high: float
    uniform: float
    by_point: tuple[float, float]
    """`low` to `high` reaches as far as the wider of the intervals clustered by knowledge point and by relation; `by_point` is
    the former. `uniform`: override of uniform scaling at that cost."""


def strengths(run: RunFrame, stem: str) -> dict[float, str]:
    """The strengths at which a policy was audited, ascending, from 0, the base: `effect-gated-1.5` is 1.5."""
    found = {0.0: BASE}
    for name in run.conditions:
        head, _, setting = name.rpartition("-")
        if head == stem and setting.replace(".", "", 1).isdigit():
            found[float(setting)] = name
    return dict(sorted(found.items()))


def costs_read(sweep: Mapping[float, str]) -> list[float]:
    """The gains of AT that were audited."""
    return [gain for gain in AT if gain in sweep]


def over_costs(run: RunFrame, stem: str, seed: int = 0) -> dict[str, dict[float, Ahead]]:
    """By cost and gain: the policy `stem` ahead of uniform scaling where unrelated questions cost what the gain costs."""
    (conflict, conflict_points), (retained, retained_points) = grid(run, "conflict"), grid(run, "retention")
    kl, _ = grid(run, "retention", "kl")
    sweeps = [gains(run), strengths(run, stem)]
    names, n = [name for sweep in sweeps for name in sweep.values()], len(conflict)
    costs = costs_read(sweeps[0])
    points = np.concatenate([conflict_points, retained_points])
    limits: dict[str, list[list[tuple[float, float]]]] = {RETENTION: [], KL: []}
    values: Mapping[str, Float[np.ndarray, " cost"]] = {}
    uniform: Mapping[str, Float[np.ndarray, " cost"]] = {}
    for level in levels(points):
        blocks = [
            (shares(conflict, names, w[:, :n]), shares(retained, names, w[:, n:]), shares(kl, names, w[:, n:]))
            for w in chain([np.ones((1, len(points)))], bootstrap_weights(level.codes, level.count, seed=seed))
        ]
        override, kept, divergence = map(np.vstack, zip(*blocks, strict=True))
        of_cost = {
            RETENTION: _ahead(sweeps, override, kept, 1 / len(retained), seed),
            KL: _ahead(sweeps, override, -np.sqrt(np.maximum(divergence, 0.0)), 0.0, seed),
        }
        first = np.arange(len(points)) < n
        count = min(effective_count(level.of(first)), effective_count(level.of(~first)))
        values = values or {cost: draws[0] for cost, (draws, _) in of_cost.items()}
        uniform = uniform or {cost: level_of_uniform for cost, (_, level_of_uniform) in of_cost.items()}
        for cost, (draws, _) in of_cost.items():
            limits[cost].append([percentile_interval(draws[1:, k], count) for k in range(len(costs))])
    found: dict[str, dict[float, Ahead]] = {}
    for cost, of_levels in limits.items():
        found[cost] = {}
        for k, gain in enumerate(costs):
            low, high = _widest([of_level[k] for of_level in of_levels])
            found[cost][gain] = Ahead(float(values[cost][k]), low, high, float(uniform[cost][k]), of_levels[0][k])
    return found


def most_override(run: RunFrame) -> float:
    """What the best uniform gain overrides: no choice of one gain for all conflicts does better, whatever it costs."""
    wide, _ = grid(run, "conflict")
    return float(np.nanmax([wide[name].mean() for name in gains(run).values()]))


def _ahead(
    sweeps: list[dict[float, str]],
    override: Float[np.ndarray, "replicate condition"],
    cost: Float[np.ndarray, "replicate condition"],
    unit: float,
    seed: int,
) -> tuple[Float[np.ndarray, "replicate cost"], Float[np.ndarray, " cost"]]:
    """Override of the second sweep minus the first's, at the costs of the gains AT of the first; and the first's on the data.

    Costs fall with strength. A cost is known to one item of `unit`: each replicate but the first moves the target by up to that
    either way.
    """
    split = len(sweeps[0])
    # a replicate without any reading has no curve: its difference is NaN, so it is left out
    whole: Bool[np.ndarray, " replicate"] = ~np.any(np.isnan(np.hstack([override, cost])), axis=1)
    override, cost = (np.where(whole[:, None], part, 0.0) for part in (override, cost))
    curves = []
    for sweep, columns in zip(sweeps, (slice(None, split), slice(split, None)), strict=True):
        axis = np.array(list(sweep))
        floor = np.minimum.accumulate(cost[:, columns], axis=1)
        fine, of_override = refined(axis, override[:, columns])
        curves.append((fine, refined(axis, floor)[1], of_override))
    jitter = np.r_[0.0, np.random.default_rng([seed, 1]).uniform(-1, 1, len(override) - 1)] * unit
    at = list(sweeps[0])
    columns, on_data = [], []
    for gain in costs_read(sweeps[0]):
        target = np.minimum.accumulate(cost[:, :split], axis=1)[:, at.index(gain)] - jitter
        uniform, policy = (along(fine, floor, of_override, target)[1] for fine, floor, of_override in curves)
        on_data.append(uniform[0])
        columns.append(np.where(whole, policy - uniform, np.nan))
    return np.stack(columns, axis=1), np.array(on_data)


def _widest(intervals: list[tuple[float, float]]) -> tuple[float, float]:
    lows, highs = zip(*intervals, strict=True)
    return (min(lows), max(highs)) if all(map(math.isfinite, (*lows, *highs))) else (math.nan, math.nan)
