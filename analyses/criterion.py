"""Does "net margin > 0" say what the model says? Agreement with the arg max and with the greedy answer.

Between y_pre and y_doc alone the criterion is an identity; what can disagree is a third token, or a longer answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyses.frame import RunFrame, truth
from analyses.intervals import proportion


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
