"""Does what the net margin predicts come true? Conflicts in bins of net margin, and how often each bin says so.

The sign predicts a share of 0 or 1. The size predicts, between the two answers alone, 1 / (1 + exp(-net margin)): the
odds of two tokens are the exponential of their logit difference. What the model says also depends on every third token.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from analyses.frame import DELIVERED, POPULATIONS, RunFrame, truth, values
from analyses.intervals import proportion

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
