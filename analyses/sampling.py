"""Answers drawn at a temperature: how often they say what the document says, and how far the draws agree."""

from __future__ import annotations

from typing import Any

from override_gap.analyses.readings import SPLITS, RunFrame, truth
from override_gap.analyses.stats.intervals import proportion


def sampled(run: RunFrame) -> list[dict[str, Any]]:
    """One row a split, condition and temperature: the mean share of an item's draws that succeed.

    `greedy` is the share of greedy answers on the same items, `unanimous` the share of items whose draws all agree on
    success or all on failure. Intervals are those of a proportion: a share of an item's draws varies at most as much as one
    draw does, so they are never too narrow for it, and they neither leave [0, 1] nor vanish where all draws agree.
    """
    if run.drawn.empty:
        return []
    drawn = run.drawn.assign(success=truth(run.drawn["success_answer"]))
    rows = []
    for split in SPLITS:
        for condition in run.conditions:
            here = drawn[(drawn["split"] == split) & (drawn["condition"] == condition)]
            greedy = run.select(split, condition)
            greedy = greedy[greedy["item"].isin(set(here["item"]))]
            for temperature, part in here.groupby("temperature"):
                each = part.groupby("item").agg(
                    share=("success", "mean"), point=("point", "first"), draws=("success", "size")
                )
                share, points = each["share"].to_numpy(dtype=float), each["point"].to_numpy(dtype=object)
                rows.append(
                    {
                        "split": split,
                        "condition": condition,
                        "temperature": float(temperature),  # type: ignore[arg-type]
                        "draws": int(each["draws"].max()),
                        **proportion("share of draws", share, points).as_json(),
                        "greedy": proportion(
                            "greedy", truth(greedy["success_answer"]), greedy["point"].to_numpy(dtype=object)
                        ).as_json(),
                        "unanimous": float(((share == 0) | (share == 1)).mean()),
                    }
                )
    return rows
