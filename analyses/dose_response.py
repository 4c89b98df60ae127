"""Gain against success: the curve, the gain that flips half of the failures, critical gains, what no gain rescues.

The dose axis is ``base`` (gain 0), ``as-delivered`` (1) and ``uniform-<gain>``. Rescue is judged by top1, because a
large push in any direction flips half of all margins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from override_gap.analyses.readings import DELIVERED, SPLITS, RunFrame, Table, gain_of, truth, values
from override_gap.analyses.stats import bootstrap
from override_gap.analyses.stats.estimate import Estimate, missing
from override_gap.analyses.stats.intervals import mean, proportion

Array = np.ndarray


def gains(run: RunFrame) -> dict[float, str]:
    """Gain -> condition, ascending."""
    found = {gain_of(name): name for name in run.conditions}
    return {gain: found[gain] for gain in sorted(gain for gain in found if gain is not None)}


def curve(run: RunFrame) -> list[dict[str, Any]]:
    """Success at each gain, per split and measure."""
    rows = []
    for gain, condition in gains(run).items():
        for split in SPLITS:
            under = run.select(split, condition)
            points = under["point"].to_numpy(dtype=object)
            for measure in ("margin", "top1", "answer"):
                estimate = proportion("success", truth(under[f"success_{measure}"]), points)
                if estimate.n:
                    rows.append({"gain": gain, "split": split, "measure": measure} | estimate.as_json())
    return rows


def margin_curve(run: RunFrame) -> list[dict[str, Any]]:
    """Mean net margin of conflicts at each gain, in nats."""
    rows = []
    for gain, condition in gains(run).items():
        under = run.select("conflict", condition)
        estimate = mean("net margin", values(under["net_margin"]), under["point"].to_numpy(dtype=object))
        if estimate.n:
            rows.append({"gain": gain, "split": "conflict"} | estimate.as_json())
    return rows


def failures(run: RunFrame, population: str = "known") -> Table:
    """Conflicts that the method as delivered does not win by top1."""
    rows = run.select("conflict", DELIVERED, population)
    return rows[truth(rows["success_top1"]) == 0.0]


def rescued(run: RunFrame, rows: Table) -> Array:
    """Whether amplitude along the adapter's own direction rescues each row's item: 1, 0, NaN if never tried [n].

    A finite measured critical gain above 1 counts, and so does top1 success under any uniform gain above 1. A failure
    that flips at a gain below 1 is one of an adapter that is too loud: more of it is no rescue.
    """
    critical = values(rows["critical_gain"])
    louder = np.isfinite(critical) & (critical > 1)
    found = np.where(np.isnan(critical), np.nan, louder.astype(float))
    for gain, condition in gains(run).items():
        if gain > 1:
            under = run.select("conflict", condition).set_index("item")["success_top1"]
            found = np.fmax(found, truth(under.reindex(rows["item"])))
    return found


def overshot(rows: Table) -> Array:
    """Whether each failure's critical gain lies below 1: the adapter as delivered is too loud for it; NaN if unmeasured."""
    critical = values(rows["critical_gain"])
    return np.where(np.isnan(critical), np.nan, (critical <= 1).astype(float))


def half_gain(run: RunFrame, seed: int = 0) -> Estimate | None:
    """Gain at which half of the failures (all conflicts) say the document's answer; infinite where none in range does.

    The median critical gain where it was measured; else interpolated along the uniform sweep.
    """
    rows = failures(run, "all")
    critical = values(rows["critical_gain"])
    known = ~np.isnan(critical)
    points = rows["point"].to_numpy(dtype=object)
    if len(rows) and known.mean() > 0.9:
        return bootstrap.bootstrap("half gain", bootstrap.median(critical[known]), points[known], seed)
    sweep = {gain: name for gain, name in gains(run).items() if gain >= 1}
    if len(rows) == 0 or len(sweep) < 2:
        return None
    said = np.array(
        [
            truth(run.select("conflict", name).set_index("item")["success_top1"].reindex(rows["item"]))
            for name in sweep.values()
        ]
    ).T
    measured = ~np.isnan(said).any(axis=1)
    if not measured.any():
        return None
    axis = np.array(list(sweep))

    def statistic(w: Array) -> Array:
        share = np.maximum.accumulate(w @ said[measured] / w.sum(1, keepdims=True), axis=1)
        reached = share >= 0.5
        at = np.maximum(reached.argmax(1), 1)
        line = np.arange(len(w))
        below, above = share[line, at - 1], share[line, at]
        step = (0.5 - below) / np.where(above > below, above - below, 1)
        return np.where(reached.any(1), axis[at - 1] + step * (axis[at] - axis[at - 1]), np.inf)

    return bootstrap.bootstrap("half gain", statistic, points[measured], seed)


def critical(run: RunFrame, seed: int = 0) -> dict[str, Any]:
    """Critical gains of the failures, measured and predicted (D_prior / D_adapter), and how linear the response is.

    Linearity is the median of measured / predicted over failures with both finite: 1 for a linear response.
    """
    rows = failures(run, "all")
    points = rows["point"].to_numpy(dtype=object)
    measured, predicted = values(rows["critical_gain"]), values(rows["critical_gain_predicted"])
    saved, loud = rescued(run, rows), overshot(rows)
    measured = np.where(measured > 1, measured, np.nan)

    def middle(name: str, numbers: Array) -> dict[str, Any] | None:
        keep = ~np.isnan(numbers)
        if not keep.any():
            return None
        return bootstrap.bootstrap(name, bootstrap.median(numbers[keep]), points[keep], seed).as_json()

    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.isfinite(measured) & np.isfinite(predicted) & (predicted > 0), measured / predicted, np.nan)
    never = proportion("not rescuable", 1 - saved, points) if len(rows) else missing("not rescuable", "no failure")
    return {
        "measured_median": middle("critical gain", measured),
        "predicted_median": middle("predicted critical gain", predicted),
        "not_rescuable": never.as_json() if never.n else None,
        "linearity": middle("measured over predicted", ratio),
        "overshot": proportion("flips only when turned down", loud, points).as_json() if len(rows) else None,
        "failures": len(rows),
    }


def dose(run: RunFrame, seed: int = 0) -> dict[str, Any] | None:
    """The section ``dose`` of the summary; None where the run holds fewer than three gains and no critical gain."""
    measured = values(run.select("conflict", DELIVERED)["critical_gain"])
    if len(gains(run)) < 3 and np.isnan(measured).all():
        return None
    half = half_gain(run, seed)
    note = ""
    if half is None:
        note = "no conflict fails as delivered, or the sweep holds no gain above 1"
    elif not half.known:
        note = "more than half of the failures do not flip at any gain in range"
    elif not np.isfinite(half.high):
        note = "the interval's upper end lies beyond the gains in range"
    return {
        "curve": curve(run),
        "margin_curve": margin_curve(run),
        "half_gain": half.as_json() if half else None,
        "half_gain_note": note,
        "critical": critical(run, seed),
    }
