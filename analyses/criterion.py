"""Does "net margin > 0" say what the model says? Agreement with the arg max and with the greedy answer.

Between y_pre and y_doc alone the criterion is an identity; what can disagree is a third token, or a longer answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from override_gap.analyses.readings import DELIVERED, POPULATIONS, RunFrame, truth, values
from override_gap.analyses.stats.intervals import proportion


def counts(override: np.ndarray, said: np.ndarray) -> dict[str, int]:
    """The four cells, over items with both: what the criterion promised against what was said."""
    promised, done = override == 1.0, said == 1.0
    return {
        "true_override": int((promised & done).sum()),
        "third_token": int((promised & ~done).sum()),
        "without_criterion": int((~promised & done).sum()),
        "neither": int((~promised & ~done).sum()),
    }


def agreement(run: RunFrame) -> list[dict[str, Any]]:
    """Share of conflicts on which criterion and speech agree, per condition and measure."""
    rows = []
    for condition in run.conditions:
        under = run.select("conflict", condition)
        override = truth(under["success_margin"])
        for measure in ("top1", "answer"):
            said = truth(under[f"success_{measure}"])
            both = ~np.isnan(override) & ~np.isnan(said)
            if not both.any():
                continue
            same = (override[both] == said[both]).astype(float)
            share = proportion("agreement", same, under["point"].to_numpy(dtype=object)[both])
            rows.append(
                {"condition": condition, "measure": measure} | share.as_json() | counts(override[both], said[both])
            )
    return rows


BINS = 4
"""At most this many bins on either side of zero."""
FEWEST = 12
"""Items a bin needs before a side is cut into one more."""


def bins(net: np.ndarray) -> list[np.ndarray]:
    """Places of net [n] in bins from low to high, alike in size on each side of zero; no bin straddles zero."""
    order = np.argsort(net, kind="stable")
    sides = (order[net[order] <= 0], order[net[order] > 0])
    return [part for side in sides if len(side) for part in np.array_split(side, np.clip(len(side) // FEWEST, 1, BINS))]


def calibration(run: RunFrame, condition: str = DELIVERED) -> list[dict[str, Any]]:
    """One row per measure, population and bin: net margin (nats), both predictions, and the share that was said."""
    rows = []
    for measure in ("top1", "answer"):
        for population in POPULATIONS:
            under = run.select("conflict", condition, population)
            net, said = values(under["net_margin"]), truth(under[f"success_{measure}"])
            points = under["point"].to_numpy(dtype=object)
            keep = np.isfinite(net) & ~np.isnan(said)
            net, said, points = net[keep], said[keep], points[keep]
            for own in bins(net):
                rows.append(
                    {
                        "condition": condition,
                        "measure": measure,
                        "population": population,
                        "net_low": net[own].min(),
                        "net_high": net[own].max(),
                        "net_mean": net[own].mean(),
                        "by_sign": float(net[own].min() > 0),
                        "by_size": expit(net[own]).mean(),
                    }
                    | proportion("said", said[own], points[own]).as_json()
                )
    return rows
