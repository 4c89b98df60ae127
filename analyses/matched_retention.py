"""Does a policy override more than uniform scaling that keeps as many unrelated answers, and does anything else suffer?

Each policy is compared with the uniform gain that has the same retention (unrelated answers kept): retention is
interpolated between the uniform gains (its running minimum, since a larger gain can only lose retention), the gain that
keeps as much as the policy is read off, and override is interpolated at that gain. The interval repeats all of this on
resampled points.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import stats
from scipy.interpolate import PchipInterpolator

from override_gap.analyses.dose_response import gains
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, gain_of, points_of, truth
from override_gap.analyses.results import ResultSection
from override_gap.analyses.stats.bootstrap import REPLICATES, bootstrap_weights, percentile_interval
from override_gap.analyses.stats.estimate import Estimate, json_number
from override_gap.analyses.stats.intervals import clusters, difference, one_sided, proportion

STEPS = 10
MARGIN = 0.05
"""A loss of novel recall or retention of more than this counts as inferior."""


@dataclass(frozen=True)
class Matched:
    """Override of a condition minus override of uniform scaling at the same retention; p is two-sided."""

    condition: str
    gain: float
    difference: Estimate
    error: float
    p: float

    @property
    def above(self) -> float:
        """One-sided p of "the condition overrides more than its uniform match"."""
        return self.p / 2 if self.difference.value > 0 else 1 - self.p / 2

    def as_json(self) -> dict[str, Any]:
        """Row of ``matched_retention.comparisons``."""
        return {
            "condition": self.condition,
            "matched_gain": json_number(self.gain),
            "difference": self.difference.as_json(),
            "p": json_number(self.p),
            "note": "; ".join(self.difference.caveats),
        }


def grid(run: RunFrame, split: str) -> tuple[Table, Shaped[np.ndarray, " n"]]:
    """top1 success as items x conditions (NaN where unmeasured), and the items' points."""
    rows = run.select(split)
    rows = rows.assign(success=truth(rows["success_top1"]))
    wide = rows.pivot(index="item", columns="condition", values="success")
    return wide, points_of(rows.drop_duplicates("item").set_index("item").reindex(wide.index))


def shares(
    wide: Table, conditions: list[str], w: Float[np.ndarray, "replicate n"]
) -> Float[np.ndarray, "replicate condition"]:
    """Success rate of each condition under item weights w."""
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


def matched(run: RunFrame, seed: int = 0, replicates: int = REPLICATES) -> list[Matched] | None:
    """Every condition that is no uniform gain against uniform scaling; None where the run lacks retention or uniform gains."""
    (conflict, conflict_points), (retained, retained_points) = grid(run, "conflict"), grid(run, "retention")
    sweep = {gain: name for gain, name in gains(run).items() if name in conflict and name in retained}
    if len(sweep) < 2 or len(retained) == 0:
        return None
    codes, count = clusters(np.concatenate([conflict_points, retained_points]))
    if count < 2:
        return None
    names = list(sweep.values())
    others = [c for c in run.conditions if gain_of(c) is None and c in conflict and c in retained]
    override_blocks, retention_blocks = [], []
    for w in chain([np.ones((1, len(codes)))], bootstrap_weights(codes, count, replicates, seed)):
        override_blocks.append(shares(conflict, [*names, *others], w[:, : len(conflict)]))
        retention_blocks.append(shares(retained, [*names, *others], w[:, len(conflict) :]))
    all_override, all_retention = np.vstack(override_blocks), np.vstack(retention_blocks)
    axis = np.array(list(sweep))
    override, retention = all_override[:, : len(names)], all_retention[:, : len(names)]
    # A replicate without any reading at some gain has no curve; its difference is NaN, so it is left out.
    whole: Bool[np.ndarray, " replicate"] = ~np.any(np.isnan(np.hstack([override, retention])), axis=1)
    if not whole[0]:
        return None
    _, override = refined(axis, np.where(whole[:, None], override, 0.0))
    floor = np.minimum.accumulate(np.where(whole[:, None], retention, 0.0), axis=1)
    axis, retention = refined(axis, floor)
    # Retention is known to one item: a policy and a gain that lose the same items may still differ by up to one, and
    # ties stay ties when resampled. So each replicate moves the target retention by up to one item either way.
    jitter = np.r_[0.0, np.random.default_rng([seed, 1]).uniform(-1, 1, replicates)]
    smaller = min(len(set(conflict_points)), len(set(retained_points)))
    comparisons = []
    others_override, others_retention = all_override[:, len(names) :].T, all_retention[:, len(names) :].T
    for condition, override_of, retention_of in zip(others, others_override, others_retention, strict=True):
        at, matched_override, outside = along(axis, retention, override, retention_of - jitter / len(retained))
        gap = np.where(whole, override_of - matched_override, np.nan)
        if np.isnan(gap[0]):
            continue
        caveats = []
        if outside[0]:
            caveats.append("retention lies outside that of the uniform gains; the nearest gain is used")
        elif outside[1:].mean() > 0.1:
            caveats.append("retention is near the end of the range of the uniform gains")
        low, high = percentile_interval(gap[1:], smaller)
        error = float(np.nanstd(gap[1:], ddof=1))
        if smaller < 2:
            caveats.append("one knowledge point only: no interval can be given")
            p = float("nan")
        elif error < 1e-12:
            p = 1.0
            caveats.append("no variation between points: the test says nothing")
        else:
            p = float(2 * stats.t.sf(abs(gap[0]) / error, smaller - 1))
        estimate = Estimate(
            "override at matched retention",
            float(gap[0]),
            low,
            high,
            len(conflict),
            len(set(conflict_points)),
            caveats=tuple(caveats),
        )
        comparisons.append(Matched(condition, float(at[0]), estimate, error, p))
    return comparisons


def frontier(run: RunFrame) -> list[dict[str, Any]]:
    """Override, retention and novel recall (top1) of every condition."""
    grids = {split: grid(run, split) for split in ("conflict", "retention", "novel")}
    rows = []
    for condition in run.conditions:
        rates = {
            split: proportion(split, wide[condition].to_numpy(float), points)
            for split, (wide, points) in grids.items()
            if condition in wide
        }
        if "conflict" in rates and "retention" in rates and rates["conflict"].n and rates["retention"].n:
            novel = rates.get("novel")
            rows.append(
                {
                    "condition": condition,
                    "override": rates["conflict"].as_json(),
                    "retention": rates["retention"].as_json(),
                    "novel": novel.as_json() if novel and novel.n else None,
                }
            )
    return rows


@dataclass(frozen=True)
class NonInferiority:
    """Success of a condition minus that of a reference on one split; ``p`` tests "not worse by more than the margin"."""

    split: str
    difference: Estimate
    p: float
    margin: float


def non_inferior(
    run: RunFrame, condition: str, split: str, reference: str = DELIVERED, margin: float = MARGIN
) -> NonInferiority | None:
    """A condition against a reference on the same items, clustered by point; None where one side was not measured."""
    wide, points = grid(run, split)
    if condition not in wide or reference not in wide:
        return None
    both = wide[[condition, reference]].notna().all(axis=1).to_numpy()
    if both.sum() == 0 or len(set(points[both])) < 2:
        return None
    first, second = (wide[name].to_numpy(float)[both] for name in (condition, reference))

    def interval(level: float) -> tuple[float, float]:
        at_level = difference("", first, points[both], second, points[both], level)
        return at_level.low, at_level.high

    gap = difference(f"{split} against {reference}", first, points[both], second, points[both])
    return NonInferiority(split, gap, one_sided(interval, -margin), margin)


def matched_retention(run: RunFrame, seed: int = 0) -> ResultSection | None:
    """The section ``matched_retention`` of the summary; None without retention items or two uniform gains."""
    comparisons = matched(run, seed)
    if comparisons is None:
        return None
    content = {"frontier": frontier(run), "comparisons": [row.as_json() for row in comparisons]}
    lines = tuple(
        f"{row.condition} against uniform gain {row.gain:.3g}, p {row.p:.3g}: {row.difference}" for row in comparisons
    )
    return ResultSection("Override minus that of uniform scaling at the same retention", content, "comparisons", lines)
