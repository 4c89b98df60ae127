"""Where in the network the adapter acts: profiles over layers, norm against effect, the layers that a policy chose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from scipy import stats

from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, gain_of, points_of, values
from override_gap.analyses.results import ResultSection
from override_gap.analyses.stats.bootstrap import bootstrap_weights, effective_count, percentile_interval
from override_gap.analyses.stats.clusters import clusters, levels
from override_gap.analyses.stats.estimate import Estimate, json_number
from override_gap.analyses.stats.intervals import mean

FEWEST_LAYERS = 4


def conflict_layers(run: RunFrame, condition: str) -> Table:
    """Layer rows of the measured conflicts under one condition."""
    measured = run.measured.loc[run.measured["condition"] == condition, "item"]
    layers = run.layers
    keep = (layers["condition"] == condition) & (layers["split"] == "conflict") & layers["item"].isin(measured)
    return layers[keep]


def column_by_layer(rows: Table, column: str) -> dict[int, tuple[Float[np.ndarray, " n"], Shaped[np.ndarray, " n"]]]:
    """Layer -> the measured values of a column and their points; n differs between layers."""
    by_layer = {}
    for layer, group in rows.groupby("layer", sort=True):
        numbers = values(group[column])
        keep = np.isfinite(numbers)
        if keep.any():
            by_layer[int(layer)] = numbers[keep], points_of(group)[keep]
    return by_layer


def profile(run: RunFrame) -> list[dict[str, Any]]:
    """One row per layer: means over conflicts with intervals, null where a quantity was not measured there."""
    base, adapted = conflict_layers(run, BASE), conflict_layers(run, DELIVERED)
    columns = {
        "norm": (adapted, "norm"),
        "attribution_base": (base, "attribution"),
        "attribution_adapted": (adapted, "attribution"),
        "lens_base": (base, "lens"),
        "lens_adapted": (adapted, "lens"),
        "direct": (adapted, "direct"),
        "alone": (adapted, "alone"),
        "removed": (adapted, "removed"),
    }
    if np.isfinite(values(adapted["path"])).any():
        columns |= {"path": (adapted, "path"), "path_first": (adapted, "path_first")}
    quantities = {name: column_by_layer(rows, column) for name, (rows, column) in columns.items()}
    layers = sorted({int(layer) for rows in (base, adapted) for layer in rows["layer"].unique()})
    table = []
    for layer in layers:
        row: dict[str, Any] = {"layer": layer}
        for name, by_layer in quantities.items():
            row[name] = None
            if layer in by_layer:
                estimate = mean(name, *by_layer[layer])
                row[name] = {
                    "mean": json_number(estimate.value),
                    "low": json_number(estimate.low),
                    "high": json_number(estimate.high),
                }
        table.append(row)
    return table


def matrix(rows: Table, column: str) -> Table:
    """A column as items x layers, without the embedding (layer -1); only items with a finite value at every layer."""
    rows = rows[rows["layer"] >= 0]
    numbers = values(rows[column])
    finite = rows.assign(number=np.where(np.isfinite(numbers), numbers, np.nan))
    wide = finite.pivot(index="item", columns="layer", values="number")
    return wide.dropna(axis=1, how="all").dropna(axis=0)


def effects(run: RunFrame) -> tuple[str, Table] | None:
    """Effect of each layer, items x layers: alone, else the loss when it is removed, else |change of attribution|."""
    adapted = conflict_layers(run, DELIVERED)
    alone = matrix(adapted, "alone")
    if not alone.empty:
        return "alone", alone
    removed = matrix(adapted, "removed")
    if not removed.empty:
        whole = run.select("conflict", DELIVERED).set_index("item")["adapter_margin"]
        total = pd.Series(values(whole), index=whole.index).reindex(removed.index)
        return "removed", removed.rsub(total, axis=0).dropna(axis=0)
    before, after = matrix(conflict_layers(run, BASE), "attribution"), matrix(adapted, "attribution")
    shared = before.index.intersection(after.index)
    if len(shared) == 0:
        return None
    return "attribution", (before.loc[shared] - after.loc[shared]).abs().dropna(axis=1)


def norm_effect(run: RunFrame, seed: int = 0) -> tuple[Estimate, str, str] | None:
    """Spearman correlation over layers of mean norm with mean effect, its sentence and the kind of effect.

    The interval resamples knowledge points.
    """
    kind_and_effect = effects(run)
    norm = matrix(conflict_layers(run, DELIVERED), "norm")
    if kind_and_effect is None or norm.empty:
        return None
    kind, effect = kind_and_effect
    layers = norm.columns.intersection(effect.columns)
    items = norm.index.intersection(effect.index)
    if len(layers) < FEWEST_LAYERS or len(items) == 0:
        return None
    norms, layer_effects = norm.loc[items, layers].to_numpy(float), effect.loc[items, layers].to_numpy(float)
    about = run.readings[["item", "point", "cluster"]].drop_duplicates("item").set_index("item")
    level = levels(points_of(about.reindex(items)))[-1]
    count = clusters(about["point"].reindex(items).to_numpy(dtype=object))[1]

    def spearman(w: Float[np.ndarray, "replicate n"]) -> Float[np.ndarray, " replicate"]:
        ranks = [
            stats.rankdata(np.round(w @ table / w.sum(1, keepdims=True), 12), axis=1)
            for table in (norms, layer_effects)
        ]
        dx, dy = (table - table.mean(1, keepdims=True) for table in ranks)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (dx * dy).sum(1) / np.sqrt((dx**2).sum(1) * (dy**2).sum(1))

    value = float(spearman(np.ones((1, len(items))))[0])
    low = high = np.nan
    if count > 1:
        low, high = percentile_interval(
            np.concatenate([spearman(w) for w in bootstrap_weights(level.codes, level.count, seed=seed)]),
            effective_count(level),
        )
    names = [int(layer) for layer in layers]
    largest_norm, largest_effect = names[int(norms.mean(0).argmax())], names[int(layer_effects.mean(0).argmax())]
    meaning = {
        "alone": "adapter margin with the layer alone",
        "removed": "loss when the layer is removed",
        "attribution": "|change of attribution|, which is no intervention",
    }[kind]
    if np.isnan(value):
        relation = "norm or effect does not vary over layers"
    elif low > 0.5:
        relation = "high norm goes with high effect here"
    elif high < 0.5:
        relation = "high norm does not mean high effect here"
    else:
        relation = "whether high norm means high effect is open here"
    note = f"{relation}: largest norm in layer {largest_norm}, largest effect in layer {largest_effect} ({meaning})"
    return Estimate("norm and effect", value, low, high, len(names), count), note, kind


def chosen(run: RunFrame) -> list[dict[str, Any]]:
    """Share of conflicts on which a policy boosts a layer (gain above 1); uniform gains boost every layer and are left out."""
    rows = []
    layers = run.layers[(run.layers["split"] == "conflict") & (values(run.layers["layer"]) >= 0)]
    by_condition = {str(name): rows for name, rows in layers.groupby("condition")}
    for condition in (name for name in run.conditions if gain_of(name) is None and name in by_condition):
        under = by_condition[condition]
        gains = values(under["gain"])
        measured = under.assign(boosted=np.where(np.isnan(gains), np.nan, gains > 1 + 1e-9)).dropna(subset=["boosted"])
        for layer, share in measured.groupby("layer")["boosted"].mean().items():
            rows.append({"condition": condition, "layer": int(layer), "share": float(share)})
    return rows


def choices(run: RunFrame) -> list[dict[str, Any]]:
    """The layers that each policy boosts, against the best choice: as many layers, those of the largest mean effect.

    ``carried`` and ``best_carried`` are the effect of the boosted layers, and of the best ones, as shares of the effect of
    all layers (negative effects count as 0), computed per item, since the choice may differ between items, and averaged.
    """
    kind_and_effect = effects(run)
    if kind_and_effect is None:
        return []
    kind, effect = kind_and_effect
    mean_effect = effect.mean(axis=0).clip(lower=0)
    if mean_effect.sum() <= 0:
        return []
    share = (mean_effect / mean_effect.sum()).to_numpy()
    order = np.argsort(-share, kind="stable")
    rows = []
    for condition in dict.fromkeys(row["condition"] for row in chosen(run)):
        gains = matrix(conflict_layers(run, condition), "gain").reindex(columns=effect.columns)
        boosted = (gains.to_numpy(float) > 1 + 1e-9).astype(float)
        boosted = boosted[boosted.sum(1) > 0]
        if len(boosted) == 0 or boosted.all():
            continue
        count = boosted.sum(1).astype(int)
        best = np.array([share[order[:k]].sum() for k in count])
        usual = round(float(count.mean()))
        most = np.argsort(-boosted.mean(0), kind="stable")[:usual]
        names = [int(layer) for layer in effect.columns]
        rows.append(
            {
                "condition": condition,
                "effect": kind,
                "chosen": sorted(names[i] for i in most),
                "best": sorted(names[i] for i in order[:usual]),
                "carried": json_number(float((boosted @ share).mean())),
                "best_carried": json_number(float(best.mean())),
                "n": len(boosted),
            }
        )
    return rows


def layers(run: RunFrame, seed: int = 0) -> ResultSection | None:
    """The section ``layers`` of the summary; None where the run has no layer readings."""
    table = profile(run)
    if not table:
        return None
    estimate, note, kind = norm_effect(run, seed) or (None, "too few layers or items to relate norm to effect", None)
    content = {
        "profile": table,
        "norm_effect": estimate.as_json() | {"effect": kind} if estimate else None,
        "chosen": chosen(run),
        "choices": choices(run),
        "note": note,
    }
    return ResultSection("Layers", content, "profile", (*([str(estimate)] if estimate else []), f"note: {note}"))
