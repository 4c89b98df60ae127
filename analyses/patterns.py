"""Which measures of success hold together, and where two of them disagree.

`top1` implies `margin`: a token above all others is above the prior answer's. All else may differ: a third token wins,
or the greedy answer goes on otherwise than it began.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from analyses.frame import DELIVERED, RunFrame, truth
from analyses.intervals import proportion

SHOWN = ("margin", "top1", "answer")


def patterns(run: RunFrame, condition: str = DELIVERED) -> list[dict[str, Any]]:
    """Share of conflicts with each combination of the measures that were taken, among those with all of them."""
    under = run.select("conflict", condition)
    points = under["point"].to_numpy(dtype=object)
    held = {name: truth(under[f"success_{name}"]) for name in SHOWN}
    held = {name: column for name, column in held.items() if not np.isnan(column).all()}
    if not held:
        return []
    keep = ~np.any([np.isnan(column) for column in held.values()], axis=0)
    if not keep.any():
        return []
    table = np.array([column[keep] for column in held.values()])
    rows = []
    for wanted in np.unique(table, axis=1).T[::-1]:
        here = (table == wanted[:, None]).all(axis=0).astype(float)
        cells: dict[str, bool | None] = dict.fromkeys(SHOWN)
        cells |= {name: bool(one) for name, one in zip(held, wanted, strict=True)}
        share = proportion("pattern", here, points[keep])
        rows.append({"condition": condition} | cells | {"count": int(here.sum())} | share.as_json())
    return rows


def pairs(run: RunFrame) -> list[dict[str, Any]]:
    """Share of conflicts on which two measures disagree, per condition; how many each of the two alone counts."""
    rows = []
    for condition in run.conditions:
        under = run.select("conflict", condition)
        points = under["point"].to_numpy(dtype=object)
        for first, second in combinations(SHOWN, 2):
            a, b = truth(under[f"success_{first}"]), truth(under[f"success_{second}"])
            keep = ~np.isnan(a) & ~np.isnan(b)
            if not keep.any():
                continue
            a, b = a[keep], b[keep]
            share = proportion("disagreement", (a != b).astype(float), points[keep])
            rows.append(
                {"condition": condition, "first": first, "second": second}
                | {"first_only": int((a > b).sum()), "second_only": int((b > a).sum())}
                | share.as_json()
            )
    return rows


def disagreement(run: RunFrame) -> dict[str, Any] | None:
    """The section ``measures`` of the summary; None where fewer than two measures were taken on any conflict."""
    compared = pairs(run)
    return {"patterns": patterns(run), "pairs": compared} if compared else None
