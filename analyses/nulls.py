"""Own against null: does the item's own adapter achieve more than one that cannot hold its answer, searched in the same way?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from override_gap.analyses.causes import content
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, truth, values
from override_gap.analyses.results import ResultRows
from override_gap.analyses.stats.differences import difference
from override_gap.analyses.stats.intervals import mean, proportion
from override_gap.margins.condition_names import NULL_MEAN, NULL_OTHER, NULL_RANDOM

NAMES = {
    NULL_OTHER: "another document's adapter",
    NULL_MEAN: "the mean adapter of other documents",
    NULL_RANDOM: "a random update of the same norm and rank",
}


def null_comparisons(run: RunFrame) -> ResultRows | None:
    """One row per null condition that was searched: failing conflicts held, rescued and pushed, own minus null, paired by item.

    *held*: y_doc is the arg max with content at some gain that does not break the model; *rescued*: the arg max at such a
    gain above 1, as in the verdict.
    Broken is judged for the adapter that acts. The push (nats) is compared at one gain per item, the same for both: the largest
    at which both were read, up to the own adapter's first held one. None without such a search.
    """
    search = run.search.assign(allowed=truth(run.search["broken"]) == 0)
    search = search[search["allowed"] & search["push"].notna()]
    own = search[search["condition"] == DELIVERED]
    rows = [row for name in run.nulls if (row := _compared(own, search[search["condition"] == name], name)) is not None]
    return ResultRows("Own adapter against null adapters, at the gains of the search", tuple(rows)) if rows else None


def _compared(own: Table, null: Table, name: str) -> dict[str, Any] | None:
    common = np.intersect1d(own["item"].unique(), null["item"].unique())
    if not len(common):
        return None
    own, null = own[own["item"].isin(common)], null[null["item"].isin(common)]
    points = own.drop_duplicates("item").set_index("item")["point"].reindex(common).to_numpy(dtype=object)
    row: dict[str, Any] = {"condition": name, "n": len(common), "points": len(set(points))}
    for key, succeeds in (("held", held), ("rescued", by_scaling_up)):
        shares = [
            succeeds(rows).groupby(rows["item"]).any().reindex(common).to_numpy(dtype=float) for rows in (own, null)
        ]
        row[key] = {
            "own": proportion("own", shares[0], points).as_json(),
            "null": proportion("null", shares[1], points).as_json(),
            # paired: the items are counted once
            "difference": difference("own - null", shares[0], points, shares[1], points).as_json() | {"n": len(common)},
        }
    row["push"] = _pushes(own, null, common, points)
    row["sentence"] = sentence(row)
    return row


def first(rows: Table) -> Table:
    """Whether y_doc's token is the arg max, per row of the search."""
    return pd.Series(truth(rows["success_top1"]) == 1, index=rows.index)


def by_scaling_up(rows: Table) -> Table:
    """Whether it is so at a gain above 1, per row of the search."""
    return first(rows) & (rows["gain"] > 1)


def held(rows: Table) -> Table:
    """Whether y_doc's token is the arg max with content, where that can be told, per row of the search."""
    return first(rows) & pd.Series(content(rows), index=rows.index)


def _pushes(
    own: Table, null: Table, common: Shaped[np.ndarray, " item"], points: Shaped[np.ndarray, " item"]
) -> dict[str, Any]:
    decisive = own[held(own)].groupby("item")["gain"].min().reindex(common).fillna(np.inf)
    both = own[["item", "gain", "push"]].merge(
        null[["item", "gain", "push"]], on=["item", "gain"], suffixes=("", "_null")
    )
    both = both[values(both["gain"]) <= both["item"].map(decisive).to_numpy(dtype=float)]
    at = both.sort_values("gain").groupby("item").tail(1).set_index("item").reindex(common)
    pushes: list[Float[np.ndarray, " item"]] = [values(at[name]) for name in ("push", "push_null")]
    return {
        "own": mean("own push", pushes[0], points, units="nats").as_json(),
        "null": mean("null push", pushes[1], points, units="nats").as_json(),
        "difference": mean("own - null", pushes[0] - pushes[1], points, units="nats").as_json(),
        "median_gain": float(np.nanmedian(values(at["gain"]))) if at["gain"].notna().any() else None,
    }


def sentence(row: dict[str, Any]) -> str:
    """What the comparison says, in words."""
    own, null, gap = (row["held"][key] for key in ("own", "null", "difference"))
    interval = (
        "" if gap["low"] is None or np.isnan(gap["low"]) else f" [{100 * gap['low']:.0f}, {100 * gap['high']:.0f}]"
    )
    return (
        f"Searched in the same way, {NAMES[row['condition']]} holds the document's answer on {100 * null['value']:.0f}% of "
        f"{row['n']} failing conflicts, the item's own on {100 * own['value']:.0f}%: a difference of "
        f"{100 * gap['value']:.0f}{interval} points."
    )
