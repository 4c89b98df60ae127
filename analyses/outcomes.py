"""Success of every condition: split, tier, measure and population, each with its interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.readings import MEASURES, POPULATIONS, SPLITS, TIERS, RunFrame, truth
from override_gap.analyses.stats.intervals import proportion


def outcomes(run: RunFrame) -> list[dict[str, Any]]:
    """One row per split, tier (null: all), condition, measure and population that has anything measured."""
    rows = []
    measured = run.measured
    for split in SPLITS:
        inside = measured[measured["split"] == split]
        for condition in run.conditions:
            under = inside[inside["condition"] == condition]
            if under.empty:
                continue
            success = {measure: truth(under[f"success_{measure}"]) for measure in MEASURES}
            points, tier = under["point"].to_numpy(dtype=object), under["tier"].to_numpy(dtype=object)
            known = truth(under["known"]) == 1.0
            for wanted in (None, *TIERS) if split == "conflict" else (None,):
                for population in POPULATIONS:
                    keep = np.ones(len(under), dtype=bool) if wanted is None else tier == wanted
                    if population == "known":
                        keep = keep & known
                    for measure, outcome in success.items():
                        estimate = proportion("success", outcome[keep], points[keep])
                        if estimate.n:
                            rows.append(
                                {
                                    "split": split,
                                    "tier": wanted,
                                    "condition": condition,
                                    "measure": measure,
                                    "population": population,
                                }
                                | estimate.as_json()
                            )
    return rows


def by_split(run: RunFrame) -> list[dict[str, Any]]:
    """How many items, points and known items each split and tier holds; items with errors are counted too."""
    items = run.readings.drop_duplicates("item")
    status = run.readings.groupby("item")["status"].agg(lambda column: (column == "ok").any())
    items = items.assign(held=truth(items["known"]) == 1.0, fine=items["item"].map(status))
    rows = []
    for (split, tier), part in items.groupby(["split", "tier"], dropna=False, sort=False):
        rows.append(
            {
                "split": str(split),
                "tier": None if pd.isna(tier) else str(tier),
                "n": len(part),
                "points": int(part["point"].nunique()),
                "known": int(part["held"].sum()),
                "measured": int(part["fine"].sum()),
            }
        )

    def place(row: dict[str, Any]) -> tuple[int, int]:
        split = SPLITS.index(row["split"]) if row["split"] in SPLITS else len(SPLITS)
        return split, (TIERS.index(row["tier"]) if row["tier"] in TIERS else -1)

    return sorted(rows, key=place)
