"""Answers drawn at a temperature: how often they give the document's answer, and how far the draws agree."""

from __future__ import annotations

from override_gap.analyses.readings import SPLITS, RunFrame, points_of, success_rate, truth
from override_gap.analyses.results import ResultRows
from override_gap.analyses.stats.intervals import proportion

TITLE = "Success of answers drawn at a temperature"


def sampled(run: RunFrame) -> ResultRows:
    """The mean share of an item's draws that succeed: one row per split, condition and temperature.

    `greedy` is the share of greedy answers on the same items, `unanimous` the share of items whose draws all agree on
    success or all on failure. Intervals are those of a proportion: a share of an item's draws varies at most as much as one
    draw does, so they are never too narrow, they stay in [0, 1], and they keep a width where all draws agree.
    """
    if run.drawn.empty:
        return ResultRows(TITLE, ())
    drawn = run.drawn.assign(success=truth(run.drawn["success_answer"])).dropna(subset="success")
    rows = []
    for split in SPLITS:
        for condition in run.conditions:
            draws = drawn[(drawn["split"] == split) & (drawn["condition"] == condition)]
            greedy = run.select(split, condition)
            greedy = greedy[greedy["item"].isin(set(draws["item"]))]
            for temperature, group in draws.groupby("temperature"):
                about = {name: (name, "first") for name in ("point", "cluster") if name in group}
                per_item = group.groupby("item").agg(share=("success", "mean"), draws=("success", "size"), **about)
                share, points = per_item["share"].to_numpy(dtype=float), points_of(per_item)
                rows.append(
                    {
                        "split": split,
                        "condition": condition,
                        "temperature": float(temperature),  # type: ignore[arg-type]
                        "draws": int(per_item["draws"].max()),
                        **proportion("share of draws", share, points).as_json(),
                        "greedy": success_rate(greedy, "answer", "greedy").as_json(),
                        "unanimous": float(((share == 0) | (share == 1)).mean()),
                    }
                )
    return ResultRows(TITLE, tuple(rows))
