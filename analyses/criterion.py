"""Does the criterion, net margin > 0, predict what the model says? Agreement with the arg max and the greedy answer.

Between y_pre and y_doc alone the criterion is true by definition; a third token or a longer answer can disagree with it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import expit

from override_gap.analyses.readings import DELIVERED, POPULATIONS, RunFrame, points_of, truth, values
from override_gap.analyses.results import ResultRows
from override_gap.analyses.stats.intervals import proportion


def counts(override: Float[np.ndarray, " n"], success: Float[np.ndarray, " n"]) -> dict[str, int]:
    """The four cells of the criterion against what the model says, over items with both."""
    predicted, succeeded = override == 1.0, success == 1.0
    return {
        "true_override": int((predicted & succeeded).sum()),
        "third_token": int((predicted & ~succeeded).sum()),
        "without_criterion": int((~predicted & succeeded).sum()),
        "neither": int((~predicted & ~succeeded).sum()),
    }


def agreement(run: RunFrame) -> ResultRows:
    """Share of conflicts on which the criterion and the measure agree, per condition and measure."""
    rows = []
    for condition in run.conditions:
        under = run.select("conflict", condition)
        override = truth(under["success_margin"])
        for measure in ("top1", "answer"):
            success = truth(under[f"success_{measure}"])
            both = ~np.isnan(override) & ~np.isnan(success)
            if not both.any():
                continue
            same = (override[both] == success[both]).astype(float)
            share = proportion("agreement", same, points_of(under)[both])
            rows.append(
                {"condition": condition, "measure": measure} | share.as_json() | counts(override[both], success[both])
            )
    return ResultRows("Agreement of the criterion (net margin > 0) with what the model says", tuple(rows))


BINS = 4
"""At most this many bins on either side of zero."""
FEWEST = 12
"""Items a bin needs before a side is cut into one more."""


def bins(net: Float[np.ndarray, " n"]) -> list[Integer[np.ndarray, " _"]]:
    """Indices of the items in bins of net margin from low to high, equal in size per side of zero; none straddles zero."""
    order = np.argsort(net, kind="stable")
    sides = (order[net[order] <= 0], order[net[order] > 0])
    counts = [int(np.clip(len(side) // FEWEST, 1, BINS)) for side in sides]
    return [inside for side, k in zip(sides, counts, strict=True) if len(side) for inside in np.array_split(side, k)]


def calibration(run: RunFrame, condition: str = DELIVERED) -> ResultRows:
    """Share of conflicts that get the document's answer, per measure, population and bin of net margin (nats).

    ``by_sign`` and ``by_size`` are the share predicted from the sign of the net margin and from its size (logistic).
    """
    rows = []
    for measure in ("top1", "answer"):
        for population in POPULATIONS:
            used = ["point", "cluster", "net_margin", f"success_{measure}"]
            under = run.select("conflict", condition, population, used)
            net, success = values(under["net_margin"]), truth(under[f"success_{measure}"])
            points = points_of(under)
            keep = np.isfinite(net) & ~np.isnan(success)
            net, success, points = net[keep], success[keep], points[keep]
            for inside in bins(net):
                rows.append(
                    {
                        "condition": condition,
                        "measure": measure,
                        "population": population,
                        "net_low": net[inside].min(),
                        "net_high": net[inside].max(),
                        "net_mean": net[inside].mean(),
                        "by_sign": float(net[inside].min() > 0),
                        "by_size": expit(net[inside]).mean(),
                    }
                    | proportion("said", success[inside], points[inside]).as_json()
                )
    return ResultRows("Calibration of the criterion in bins of net margin", tuple(rows))
