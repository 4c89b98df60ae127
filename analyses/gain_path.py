"""The adapter margin along the path of gains: which layers, maps and parts carry it, and how much of it is first order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from override_gap.analyses.layer_choice import layer_choice
from override_gap.analyses.layers import conflict_layers
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, points_of, values
from override_gap.analyses.results import ResultSection
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import mean
from override_gap.probes.store.mechanism_tables import MAPS

#: By term: what is said where it is above 0, below 0, or neither.
NOTES = {
    "between layers": (
        "layers help each other: together they do more than the sum of each alone",
        "layers compete: together they do less than the sum of each alone",
        "whether layers help each other or compete is open",
    ),
    "beyond first order": (
        "the margin grows by more than its slope at gain 0",
        "the margin grows by less than its slope at gain 0",
        "whether the margin grows by more or less than its slope at gain 0 is open",
    ),
}


def gain_path(run: RunFrame, seed: int = 0) -> ResultSection | None:
    """The section ``gain_path`` of the summary; None where the run has no shares along the path of gains.

    `terms`: means over conflicts, nats. adapter margin = first order + own curvature + between layers, with first order the
    sum over layers of the slopes at gain 0, own curvature what the layers do alone beyond it (where `causal` was read), and
    between layers the rest. `maps`, `parts`: mean shares; a map that an adapter lacks counts as 0. `choice`: `layer_choice`.
    """
    rows = run.select("conflict", DELIVERED).set_index("item")
    layers = conflict_layers(run, DELIVERED)
    layers = layers[np.isfinite(values(layers["path"]))]
    closed = rows[rows.index.isin(layers["item"])]
    if closed.empty:
        return None
    tried = rows[np.isfinite(values(rows["path_nodes"]))]
    terms = _terms(closed, layers)
    maps = run.table(MAPS.name)
    maps = maps[maps["item"].isin(closed.index)]
    note = _note(terms)
    content = {
        "terms": [{"term": name, **estimate.as_json()} for name, estimate in terms.items()],
        "layers": _shares(closed, layers, "layer"),
        "maps": _shares(closed, maps, "map"),
        "parts": _shares(closed, maps, "part"),
        "choice": layer_choice(run, seed),
        "nodes": {
            "median": float(np.median(values(tried["path_nodes"]))),
            "most": int(values(tried["path_nodes"]).max()),
        },
        "closed": len(closed),
        "tried": len(tried),
        "largest_gap": float(values(closed["path_gap"]).max()),
        "note": note,
    }
    lines = (*(str(estimate) for estimate in terms.values()), f"note: {note}")
    return ResultSection("Gain path", content, "terms", lines)


def _summed(items: pd.Index, table: Table, column: str) -> Float[np.ndarray, " item"]:
    """The sum of a column per item, 0 where an item has no row."""
    total = np.zeros(len(items))
    np.add.at(total, items.get_indexer(list(table["item"])), values(table[column]))
    return total


def _terms(rows: Table, layers: Table) -> dict[str, Estimate]:
    """The adapter margin, push and pull, and what of the margin is first order, own curvature and between layers."""
    margin, first = values(rows["adapter_margin"]), _summed(rows.index, layers, "path_first")
    terms = {
        "adapter margin": margin,
        "push": values(rows["push"]),
        "pull": values(rows["pull"]),
        "first order": first,
        "beyond first order": margin - first,
    }
    if np.isfinite(values(layers["alone"])).all():
        alone = _summed(rows.index, layers, "alone")
        terms |= {"own curvature": alone - first, "between layers": margin - alone}
    points = points_of(rows)
    return {name: mean(name, numbers, points, units="nats") for name, numbers in terms.items()}


def _shares(rows: Table, table: Table, by: str) -> list[dict[str, Any]]:
    """Mean shares of the adapter margin, push, pull and first order per layer, map or part, nats."""
    points = points_of(rows)
    return [
        {
            by: int(key) if by == "layer" else str(key),
            **{
                column: mean(column, _summed(rows.index, group, column), points).as_json()
                for column in ("path", "path_push", "path_pull", "path_first")
            },
        }
        for key, group in table.groupby(by, sort=True)
    ]


def _note(terms: dict[str, Estimate]) -> str:
    """Whether layers help each other or compete, as far as the interval says; without `causal`, how the margin bends."""
    name = "between layers" if "between layers" in terms else "beyond first order"
    more, less, unknown = NOTES[name]
    if terms[name].low > 0:
        return more
    return less if terms[name].high < 0 else unknown
