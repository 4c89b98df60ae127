"""Success rate per split, tier, condition, measure and population, each with its interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.readings import MEASURES, POPULATIONS, SPLITS, TIERS, RunFrame, first_rows, points_of, truth
from override_gap.analyses.results import ResultRows
from override_gap.analyses.stats.intervals import proportion


def outcomes(run: RunFrame) -> ResultRows:
    """One row per split, tier (null: all), condition, measure and population that has anything measured."""
    rows = []
    for split in SPLITS:
        for condition in [*run.conditions, *run.factor_means, *run.nulls]:
            under = run.select(split, condition)
            if under.empty:
                continue
            success = {measure: truth(under[f"success_{measure}"]) for measure in MEASURES}
            points, tier = points_of(under), under["tier"].to_numpy(dtype=object)
            known = truth(under["known"]) == 1.0
            for tier_name in (None, *TIERS) if split == "conflict" else (None,):
                for population in POPULATIONS:
                    keep = np.ones(len(under), dtype=bool) if tier_name is None else tier == tier_name
                    if population == "known":
                        keep = keep & known
                    for measure, outcome in success.items():
                        estimate = proportion("success", outcome[keep], points[keep])
                        if estimate.n:
                            rows.append(
                                {
                                    "split": split,
                                    "tier": tier_name,
                                    "condition": condition,
                                    "measure": measure,
                                    "population": population,
                                }
                                | estimate.as_json()
                            )
    return ResultRows("Success by split, condition and measure", tuple(rows))


def by_split(run: RunFrame) -> list[dict[str, Any]]:
    """Items, knowledge points and known items per split and tier; items with errors are counted too."""
    items = first_rows(run.readings, ["split", "tier", "point", "known"])
    status = (run.readings["status"] == "ok").groupby(run.readings["item"]).any()
    items = items.assign(known=truth(items["known"]) == 1.0, measured=items["item"].map(status))
    rows = []
    for (split, tier), group in items.groupby(["split", "tier"], dropna=False, sort=False):
        rows.append(
            {
                "split": str(split),
                "tier": None if pd.isna(tier) else str(tier),
                "n": len(group),
                "points": int(group["point"].nunique()),
                "known": int(group["known"].sum()),
                "measured": int(group["measured"].sum()),
            }
        )

    def position(row: dict[str, Any]) -> tuple[int, int]:
        split = SPLITS.index(row["split"]) if row["split"] in SPLITS else len(SPLITS)
        return split, (TIERS.index(row["tier"]) if row["tier"] in TIERS else -1)

    return sorted(rows, key=position)
