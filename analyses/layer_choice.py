"""Which reading of the layers would have chosen the right ones: how much of the effect its largest layers carry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from override_gap.analyses.layers import conflict_layers, matrix
from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, points_of, values
from override_gap.analyses.stats.bootstrap import bootstrap_weights, effective_count, percentile_interval
from override_gap.analyses.stats.clusters import clusters, levels
from override_gap.analyses.stats.estimate import Estimate

#: As many layers as SLB takes: a quarter of those that the adapter acts on.
SHARE = 0.25
#: An effect is not compared with the readings that it is made of.
PARTS_OF = {"path": ("path",), "causal": ("alone", "removed")}


def layer_choice(run: RunFrame, seed: int = 0) -> list[dict[str, Any]]:
    """Per effect and reading: the share of the effect carried by the quarter of layers of which the reading is largest.

    Effects: `path`, the shares of the adapter margin along the path of gains, and `causal`, the mean of the adapter margin of
    a layer alone and of the loss when it is removed. Layers are chosen for each conflict by its own reading, among those that
    its adapter acts on, and a negative effect counts as 0: carried = sum of the effect of chosen layers over that of all
    layers, both over all conflicts. `best`: as many layers chosen by the effect itself. `by_chance`: drawn at random.
    The interval resamples knowledge points, or relations where they are known.
    """
    readings = layer_readings(run)
    acted_on = readings.get("norm")
    if acted_on is None or acted_on.empty:
        return []
    rows = []
    for name, effect in effects(readings).items():
        for reading, table in readings.items():
            if reading in PARTS_OF[name] or table.empty:
                continue
            row = _carried(run, effect, table, acted_on, seed)
            if row is not None:
                rows.append({"effect": name, "reading": reading, **row})
    return rows


def layer_readings(run: RunFrame) -> dict[str, Table]:
    """What a run reads of each layer as delivered, items x layers, positive towards the document's answer.

    `attribution`: the base's share of the margin of y_pre over y_doc, less the adapted model's. `lens`: by how much more than
    the layer below a layer lowers that margin, were the final norm applied after it. `removed`: the loss when it is removed.
    """
    base, adapted = conflict_layers(run, BASE), conflict_layers(run, DELIVERED)
    whole = run.select("conflict", DELIVERED).set_index("item")["adapter_margin"]
    total = pd.Series(values(whole), index=whole.index)

    def change(column: str) -> Table:
        before, after = matrix(base, column), matrix(adapted, column)
        shared = before.index.intersection(after.index)
        return before.loc[shared] - after.loc[shared]

    lens, removed = change("lens"), matrix(adapted, "removed")
    return {
        "norm": matrix(adapted, "norm"),
        "direct": matrix(adapted, "direct"),
        "attribution": change("attribution"),
        "lens": lens.diff(axis=1).fillna({column: lens[column] for column in lens.columns[:1]}),
        "alone": matrix(adapted, "alone"),
        "removed": removed.rsub(total.reindex(removed.index), axis=0).dropna(axis=0),
        "first order": matrix(adapted, "path_first"),
        "path": matrix(adapted, "path"),
    }


def effects(readings: Mapping[str, Table]) -> dict[str, Table]:
    """The effects that readings are held against, where the run has them."""
    found = {"path": readings["path"]}
    alone, removed = readings["alone"], readings["removed"]
    items = alone.index.intersection(removed.index)
    if len(items):
        found["causal"] = (alone.loc[items] + removed.loc[items]) / 2
    return {name: table for name, table in found.items() if not table.empty}


def _carried(run: RunFrame, effect: Table, reading: Table, norms: Table, seed: int) -> dict[str, Any] | None:
    """One row of `layer_choice`; None where no conflict has all three."""
    items = effect.index.intersection(reading.index).intersection(norms.index)
    layers = effect.columns.intersection(reading.columns).intersection(norms.columns)
    if not len(items) or not len(layers):
        return None
    acts = norms.loc[items, layers].to_numpy(float) > 0
    size = np.clip(effect.loc[items, layers].to_numpy(float), 0, None) * acts
    count = np.ceil(SHARE * acts.sum(1)).astype(int)
    by_reading = np.where(acts, reading.loc[items, layers].to_numpy(float), -np.inf)
    by_effect = np.where(acts, size, -np.inf)
    chosen, best = _largest(by_reading, count), _largest(by_effect, count)
    all_of, of_chosen, of_best = size.sum(1), (size * chosen).sum(1), (size * best).sum(1)
    if all_of.sum() <= 0:
        return None
    about = run.readings[["item", "point", "cluster"]].drop_duplicates("item").set_index("item")
    level = levels(points_of(about.reindex(items)))[-1]
    points = clusters(about["point"].reindex(items).to_numpy(dtype=object))[1]
    low = high = math.nan
    if points > 1:
        with np.errstate(invalid="ignore", divide="ignore"):
            draws = [(w @ of_chosen) / (w @ all_of) for w in bootstrap_weights(level.codes, level.count, seed=seed)]
        low, high = percentile_interval(np.concatenate(draws), effective_count(level))
    estimate = Estimate("carried", float(of_chosen.sum() / all_of.sum()), low, high, len(items), points)
    often = np.argsort(-chosen.mean(0), kind="stable")[: round(float(count.mean()))]
    return {
        **estimate.as_json(),
        "best": float(of_best.sum() / all_of.sum()),
        "by_chance": float((all_of * count / acts.sum(1).clip(1)).sum() / all_of.sum()),
        "layers": sorted(int(layers[n]) for n in often),
    }


def _largest(table: Float[np.ndarray, "item layer"], count: Any) -> Float[np.ndarray, "item layer"]:
    """1 at the so many largest values of each row, 0 elsewhere; of equal ones the lower layers."""
    order = np.argsort(-table, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    return (place < np.asarray(count)[:, None]).astype(float)
