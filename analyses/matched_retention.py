"""Is a policy a cure or a louder adapter? Override at equal cost, and whether anything else suffers.

Each policy is set against the uniform gain that costs the same retention: retention is interpolated along the
uniform sweep (the running minimum, since amplitude can only cost), the gain that keeps as much as the policy does is
read off, and override is interpolated at that gain. The interval repeats all of this on resampled points.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from scipy import stats
from scipy.interpolate import PchipInterpolator

from override_gap.analyses.dose_response import gains
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, gain_of, truth
from override_gap.analyses.stats.bootstrap import REPLICATES, bootstrap_weights, expanded
from override_gap.analyses.stats.estimate import Estimate, number
from override_gap.analyses.stats.intervals import clusters, difference, one_sided, proportion

STEPS = 10
MARGIN = 0.05
"""A loss of novel recall or retention of more than this is inferior."""

Array = np.ndarray


@dataclass(frozen=True)
class Matched:
    """Override of a condition minus that of uniform scaling at the same retention; p is two-sided."""

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
            "matched_gain": number(self.gain),
            "difference": self.difference.as_json(),
            "p": number(self.p),
            "note": "; ".join(self.difference.caveats),
        }


def grid(run: RunFrame, split: str) -> tuple[Table, Array]:
    """top1 success, items x conditions (NaN where unmeasured), and the items' points."""
    rows = run.select(split)
    rows = rows.assign(said=truth(rows["success_top1"]))
    wide = rows.pivot(index="item", columns="condition", values="said")
    return wide, rows.drop_duplicates("item").set_index("item")["point"].reindex(wide.index).to_numpy(dtype=object)


def shares(wide: Table, conditions: list[str], w: Array) -> Array:
    """Weighted success of each condition [replicate, condition]; w is item weights [replicate, item]."""
    said = wide[conditions].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (w @ np.nan_to_num(said)) / (w @ (~np.isnan(said)).astype(float))


def along(sweep: Array, retention: Array, override: Array, kept: Array) -> tuple[Array, Array, Array]:
    """Gain, override and whether the sweep was left, at the largest gain that keeps ``kept`` [replicate].

    sweep [gain] ascending; retention and override [replicate, gain].
    """
    floor = np.minimum.accumulate(retention, axis=1)
    enough = floor >= kept[:, None] - 1e-12
    last = enough.sum(1) - 1
    outside = (last < 0) | (last == len(sweep) - 1) & (floor[:, -1] > kept + 1e-12)
    left = np.clip(last, 0, len(sweep) - 1)
    right = np.minimum(left + 1, len(sweep) - 1)
    line = np.arange(len(kept))
    drop = floor[line, left] - floor[line, right]
    step = np.where(drop > 1e-12, (floor[line, left] - kept) / np.where(drop > 1e-12, drop, 1), 0.0)
    step = np.clip(step, 0, 1)
    at = sweep[left] + step * (sweep[right] - sweep[left])
    return at, override[line, left] + step * (override[line, right] - override[line, left]), outside


def refined(sweep: Array, curves: Array) -> tuple[Array, Array]:
    """Sweep and curves [replicate, gain] with ``STEPS`` steps between neighbours, by monotone cubics (PCHIP).

    Straight chords lie below a dose-response curve that bends down, and would flatter every policy.
    """
    steps = np.arange(STEPS) / STEPS
    fine = np.r_[(sweep[:-1, None] + np.diff(sweep)[:, None] * steps).ravel(), sweep[-1]]
    return fine, PchipInterpolator(sweep, curves, axis=1)(fine)


def matched(run: RunFrame, seed: int = 0, replicates: int = REPLICATES) -> list[Matched] | None:
    """Every condition off the dose axis against uniform scaling; None where the run cannot tell."""
    (conflict, conflict_points), (kept, kept_points) = grid(run, "conflict"), grid(run, "retention")
    sweep = {gain: name for gain, name in gains(run).items() if name in conflict and name in kept}
    if len(sweep) < 2 or len(kept) == 0:
        return None
    codes, count = clusters(np.concatenate([conflict_points, kept_points]))
    if count < 2:
        return None
    names = list(sweep.values())
    others = [c for c in run.conditions if gain_of(c) is None and c in conflict and c in kept]
    won, stayed = [], []
    for w in chain([np.ones((1, len(codes)))], bootstrap_weights(codes, count, replicates, seed)):
        won.append(shares(conflict, [*names, *others], w[:, : len(conflict)]))
        stayed.append(shares(kept, [*names, *others], w[:, len(conflict) :]))
    all_won, all_kept = np.vstack(won), np.vstack(stayed)
    axis = np.array(list(sweep))
    override, retention = all_won[:, : len(names)], all_kept[:, : len(names)]
    # A draw without any reading at some gain has no curve; it is left out with its NaN difference.
    whole: Array = ~np.any(np.isnan(np.hstack([override, retention])), axis=1)
    if not whole[0]:
        return None
    _, override = refined(axis, np.where(whole[:, None], override, 0.0))
    floor = np.minimum.accumulate(np.where(whole[:, None], retention, 0.0), axis=1)
    axis, retention = refined(axis, floor)
    # Retention is known to one item: a policy and a gain that lose the same items may still differ by up to one, and
    # resampled ties stay ties. So each draw moves the retention to be matched by up to an item either way.
    within = np.r_[0.0, np.random.default_rng([seed, 1]).uniform(-1, 1, replicates)]
    smaller = min(len(set(conflict_points)), len(set(kept_points)))
    found = []
    for condition, own, cost in zip(others, all_won[:, len(names) :].T, all_kept[:, len(names) :].T, strict=True):
        at, rival, outside = along(axis, retention, override, cost - within / len(kept))
        gap = np.where(whole, own - rival, np.nan)
        if np.isnan(gap[0]):
            continue
        caveats = []
        if outside[0]:
            caveats.append("retention lies outside the uniform sweep; its last gain was taken")
        elif outside[1:].mean() > 0.1:
            caveats.append("retention is near the end of the uniform sweep")
        low, high = expanded(gap[1:], smaller)
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
        found.append(Matched(condition, float(at[0]), estimate, error, p))
    return found


def frontier(run: RunFrame) -> list[dict[str, Any]]:
    """Override, retention and novel recall (top1) of every condition."""
    grids = {split: grid(run, split) for split in ("conflict", "retention", "novel")}
    rows = []
    for condition in run.conditions:
        found = {
            split: proportion(split, wide[condition].to_numpy(float), points)
            for split, (wide, points) in grids.items()
            if condition in wide
        }
        if "conflict" in found and "retention" in found and found["conflict"].n and found["retention"].n:
            novel = found.get("novel")
            rows.append(
                {
                    "condition": condition,
                    "override": found["conflict"].as_json(),
                    "retention": found["retention"].as_json(),
                    "novel": novel.as_json() if novel and novel.n else None,
                }
            )
    return rows


@dataclass(frozen=True)
class NonInferiority:
    """Success of a condition minus a reference on one split; ``p`` tests "not worse by more than the margin"."""

    split: str
    difference: Estimate
    p: float
    margin: float


def non_inferior(
    run: RunFrame, condition: str, split: str, reference: str = DELIVERED, margin: float = MARGIN
) -> NonInferiority | None:
    """Paired over items, clustered by point; None where one side was not measured."""
    wide, points = grid(run, split)
    if condition not in wide or reference not in wide:
        return None
    both = wide[[condition, reference]].notna().all(axis=1).to_numpy()
    if both.sum() == 0 or len(set(points[both])) < 2:
        return None
    own, other = (wide[name].to_numpy(float)[both] for name in (condition, reference))

    def interval(level: float) -> tuple[float, float]:
        found = difference("", own, points[both], other, points[both], level)
        return found.low, found.high

    found = difference(f"{split} against {reference}", own, points[both], other, points[both])
    return NonInferiority(split, found, one_sided(interval, -margin), margin)


def matched_retention(run: RunFrame, seed: int = 0) -> dict[str, Any] | None:
    """The section ``matched_retention`` of the summary; None without retention items or a uniform sweep."""
    found = matched(run, seed)
    if found is None:
        return None
    return {"frontier": frontier(run), "comparisons": [row.as_json() for row in found]}
