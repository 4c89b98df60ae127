"""Success against the gain: the curve, the gain that rescues half of the failures, critical gains, what no gain rescues.

The gains are those of ``base`` (0), ``as-delivered`` (1) and ``uniform-<gain>``. Rescue is judged by top1, because a
large push in any direction flips half of all margins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from override_gap.analyses.readings import (
    DELIVERED,
    SPLITS,
    RunFrame,
    Table,
    gain_of,
    points_of,
    success_rate,
    truth,
    values,
)
from override_gap.analyses.results import ResultSection, estimate_text
from override_gap.analyses.stats import bootstrap
from override_gap.analyses.stats.estimate import Estimate, missing
from override_gap.analyses.stats.intervals import mean, proportion

CRITICAL = {
    "measured_median": "median critical gain",
    "predicted_median": "median critical gain predicted by a linear response",
    "not_rescuable": "failures that no gain in range rescues",
    "linearity": "measured over predicted critical gain",
    "overshot": "failures that succeed at a gain below 1",
}
"""What each estimate of the section ``dose.critical`` is, in text."""


def gains(run: RunFrame) -> dict[float, str]:
    """Gain -> condition, ascending."""
    names = {gain: name for name in run.conditions if (gain := gain_of(name)) is not None}
    return dict(sorted(names.items()))


def curve(run: RunFrame) -> list[dict[str, Any]]:
    """Success rate at each gain, per split and measure."""
    rows = []
    for gain, condition in gains(run).items():
        for split in SPLITS:
            under = run.select(split, condition)
            for measure in ("margin", "top1", "answer"):
                estimate = success_rate(under, measure)
                if estimate.n:
                    rows.append({"gain": gain, "split": split, "measure": measure} | estimate.as_json())
    return rows


def margin_curve(run: RunFrame) -> list[dict[str, Any]]:
    """Mean net margin of conflicts at each gain, in nats."""
    rows = []
    for gain, condition in gains(run).items():
        under = run.select("conflict", condition)
        estimate = mean("net margin", values(under["net_margin"]), points_of(under))
        if estimate.n:
            rows.append({"gain": gain, "split": "conflict"} | estimate.as_json())
    return rows


def failures(run: RunFrame, population: str = "known") -> Table:
    """Conflicts whose document's answer is not the top token as delivered."""
    rows = run.select("conflict", DELIVERED, population)
    return rows[truth(rows["success_top1"]) == 0.0]


def rescued(run: RunFrame, rows: Table) -> Float[np.ndarray, " n"]:
    """Whether scaling the adapter up fixes each row's item: 1, 0, or NaN where no gain was tried.

    A finite measured critical gain above 1 counts, and so does top1 success under any uniform gain above 1. A failure
    that flips at a gain below 1 is no rescue: there the adapter is too strong.
    """
    critical = values(rows["critical_gain"])
    larger = np.isfinite(critical) & (critical > 1)
    fixed = np.where(np.isnan(critical), np.nan, larger.astype(float))
    for gain, condition in gains(run).items():
        if gain > 1:
            under = run.select("conflict", condition).set_index("item")["success_top1"]
            fixed = np.fmax(fixed, truth(under.reindex(rows["item"])))
    return fixed


def overshot(rows: Table) -> Float[np.ndarray, " n"]:
    """Whether each failure's critical gain is at most 1: there the adapter as delivered is too strong; NaN if unmeasured."""
    critical = values(rows["critical_gain"])
    return np.where(np.isnan(critical), np.nan, (critical <= 1).astype(float))


def half_gain(run: RunFrame, seed: int = 0) -> Estimate | None:
    """Gain at which half of the failures (of all conflicts) get the document's answer; infinite where no gain in range does.

    The median critical gain where it was measured, else interpolated between the uniform gains.
    """
    rows = failures(run, "all")
    critical = values(rows["critical_gain"])
    known = ~np.isnan(critical)
    points = points_of(rows)
    if len(rows) and known.mean() > 0.9:
        return bootstrap.bootstrap("half gain", bootstrap.median(critical[known]), points[known], seed)
    sweep = {gain: name for gain, name in gains(run).items() if gain >= 1}
    if len(rows) == 0 or len(sweep) < 2:
        return None
    success = np.array(
        [
            truth(run.select("conflict", name).set_index("item")["success_top1"].reindex(rows["item"]))
            for name in sweep.values()
        ]
    ).T
    measured = ~np.isnan(success).any(axis=1)
    if not measured.any():
        return None
    axis = np.array(list(sweep))

    def statistic(w: Float[np.ndarray, "replicate n"]) -> Float[np.ndarray, " replicate"]:
        share = np.maximum.accumulate(w @ success[measured] / w.sum(1, keepdims=True), axis=1)
        reached = share >= 0.5
        at = np.maximum(reached.argmax(1), 1)
        replicate = np.arange(len(w))
        below, above = share[replicate, at - 1], share[replicate, at]
        step = (0.5 - below) / np.where(above > below, above - below, 1)
        return np.where(reached.any(1), axis[at - 1] + step * (axis[at] - axis[at - 1]), np.inf)

    return bootstrap.bootstrap("half gain", statistic, points[measured], seed)


def critical(run: RunFrame, seed: int = 0) -> dict[str, Any]:
    """Critical gains of the failures, measured and predicted (D_prior / D_adapter), and how linear the response is.

    Linearity is the median of measured / predicted over the failures where both are finite: 1 for a linear response.
    """
    rows = failures(run, "all")
    points = points_of(rows)
    measured, predicted = values(rows["critical_gain"]), values(rows["critical_gain_predicted"])
    fixed, too_strong = rescued(run, rows), overshot(rows)
    measured = np.where(measured > 1, measured, np.nan)

    def median(name: str, numbers: Float[np.ndarray, " n"]) -> dict[str, Any] | None:
        keep = ~np.isnan(numbers)
        if not keep.any():
            return None
        return bootstrap.bootstrap(name, bootstrap.median(numbers[keep]), points[keep], seed).as_json()

    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.isfinite(measured) & np.isfinite(predicted) & (predicted > 0), measured / predicted, np.nan)
    never = proportion("not rescuable", 1 - fixed, points) if len(rows) else missing("not rescuable", "no failure")
    return {
        "measured_median": median("critical gain", measured),
        "predicted_median": median("predicted critical gain", predicted),
        "not_rescuable": never.as_json() if never.n else None,
        "linearity": median("measured over predicted", ratio),
        "overshot": proportion("succeeds at a gain below 1", too_strong, points).as_json() if len(rows) else None,
        "failures": len(rows),
    }


def dose(run: RunFrame, seed: int = 0) -> ResultSection | None:
    """The section ``dose`` of the summary; None where the run has fewer than three gains and no critical gain."""
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
    content = {
        "curve": curve(run),
        "margin_curve": margin_curve(run),
        "half_gain": half.as_json() if half else None,
        "half_gain_note": note,
        "critical": critical(run, seed),
    }
    lines = [str(half)] if half else []
    lines += [
        f"{name}: {estimate_text(content['critical'][key])}"
        for key, name in CRITICAL.items()
        if content["critical"][key] is not None
    ]
    return ResultSection("Success against the gain", content, "curve", (*lines, *([f"note: {note}"] if note else [])))
