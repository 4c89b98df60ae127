"""Where in the network: profiles over layers, whether norm goes with effect, which layers a policy chose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, gain_of, values
from override_gap.analyses.stats.bootstrap import bootstrap_weights, expanded
from override_gap.analyses.stats.estimate import Estimate, number
from override_gap.analyses.stats.intervals import clusters, mean

FEWEST_LAYERS = 4

Array = np.ndarray


def conflict_layers(run: RunFrame, condition: str) -> Table:
    """Layer rows of the measured conflicts under one condition."""
    fine = run.measured.loc[run.measured["condition"] == condition, "item"]
    layers = run.layers
    keep = (layers["condition"] == condition) & (layers["split"] == "conflict") & layers["item"].isin(fine)
    return layers[keep]


def column_by_layer(rows: Table, column: str) -> dict[int, tuple[Array, Array]]:
    """Layer -> values [n] and points [n] of what was measured."""
    found = {}
    for layer, part in rows.groupby("layer", sort=True):
        numbers = values(part[column])
        keep = np.isfinite(numbers)
        if keep.any():
            found[int(layer)] = numbers[keep], part["point"].to_numpy(dtype=object)[keep]
    return found


def profile(run: RunFrame) -> list[dict[str, Any]]:
    """One row a layer: means over conflicts with intervals, null where a quantity was not measured there."""
    base, adapted = conflict_layers(run, BASE), conflict_layers(run, DELIVERED)
    wanted = {
        "norm": (adapted, "norm"),
        "attribution_base": (base, "attribution"),
        "attribution_adapted": (adapted, "attribution"),
        "lens_base": (base, "lens"),
        "lens_adapted": (adapted, "lens"),
        "direct": (adapted, "direct"),
        "alone": (adapted, "alone"),
        "removed": (adapted, "removed"),
    }
    found = {name: column_by_layer(rows, column) for name, (rows, column) in wanted.items()}
    layers = sorted({int(layer) for rows in (base, adapted) for layer in rows["layer"].unique()})
    table = []
    for layer in layers:
        row: dict[str, Any] = {"layer": layer}
        for name, by_layer in found.items():
            row[name] = None
            if layer in by_layer:
                estimate = mean(name, *by_layer[layer])
                row[name] = {"mean": number(estimate.value), "low": number(estimate.low), "high": number(estimate.high)}
        table.append(row)
    return table


def matrix(rows: Table, column: str) -> Table:
    """Items x layers (the embedding, layer -1, left out), only items measured at every layer; infinity is no measurement."""
    rows = rows[rows["layer"] >= 0]
    numbers = values(rows[column])
    finite = rows.assign(number=np.where(np.isfinite(numbers), numbers, np.nan))
    wide = finite.pivot(index="item", columns="layer", values="number")
    return wide.dropna(axis=1, how="all").dropna(axis=0)


def effects(run: RunFrame) -> tuple[str, Table] | None:
    """Causal effect of each layer, items x layers: alone, else what its removal costs, else |attribution|."""
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
    """Spearman over layers of mean norm with mean effect, and a sentence; the interval draws knowledge points."""
    found = effects(run)
    norm = matrix(conflict_layers(run, DELIVERED), "norm")
    if found is None or norm.empty:
        return None
    kind, effect = found
    layers = norm.columns.intersection(effect.columns)
    items = norm.index.intersection(effect.index)
    if len(layers) < FEWEST_LAYERS or len(items) == 0:
        return None
    norms, acts = norm.loc[items, layers].to_numpy(float), effect.loc[items, layers].to_numpy(float)
    home = run.readings.drop_duplicates("item").set_index("item")["point"]
    codes, count = clusters(home.reindex(items).to_numpy(dtype=object))

    def rank(w: Array) -> Array:
        ranks = [stats.rankdata(np.round(w @ table / w.sum(1, keepdims=True), 12), axis=1) for table in (norms, acts)]
        dx, dy = (table - table.mean(1, keepdims=True) for table in ranks)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (dx * dy).sum(1) / np.sqrt((dx**2).sum(1) * (dy**2).sum(1))

    value = float(rank(np.ones((1, len(items))))[0])
    low = high = np.nan
    if count > 1:
        low, high = expanded(np.concatenate([rank(w) for w in bootstrap_weights(codes, count, seed=seed)]), count)
    names = [int(layer) for layer in layers]
    loudest, strongest = names[int(norms.mean(0).argmax())], names[int(acts.mean(0).argmax())]
    how = {
        "alone": "adapter margin with the layer alone",
        "removed": "loss when the layer is removed",
        "attribution": "|change of attribution|, which is no intervention",
    }[kind]
    if np.isnan(value):
        verdict = "norm or effect does not vary over layers"
    elif low > 0.5:
        verdict = "high norm goes with high effect here"
    elif high < 0.5:
        verdict = "high norm does not mean high effect here"
    else:
        verdict = "whether high norm means high effect is open here"
    note = f"{verdict}: largest norm in layer {loudest}, largest effect in layer {strongest} ({how})"
    return Estimate("norm and effect", value, low, high, len(names), count), note, kind


def chosen(run: RunFrame) -> list[dict[str, Any]]:
    """Share of conflicts on which a policy boosts a layer (gain above 1); the dose axis boosts all and is left out."""
    rows = []
    layers = run.layers[(run.layers["split"] == "conflict") & (values(run.layers["layer"]) >= 0)]
    for condition in run.conditions:
        part = layers[layers["condition"] == condition]
        if part.empty or gain_of(condition) is not None:
            continue
        gains = values(part["gain"])
        measured = part.assign(boosted=np.where(np.isnan(gains), np.nan, gains > 1 + 1e-9)).dropna(subset=["boosted"])
        for layer, share in measured.groupby("layer")["boosted"].mean().items():
            rows.append({"condition": condition, "layer": int(layer), "share": float(share)})
    return rows


def choices(run: RunFrame) -> list[dict[str, Any]]:
    """What each policy chose against what it should have chosen: as many layers, those of the largest mean effect.

    ``carried`` and ``best_carried`` are the effect of the layers boosted, and of the best ones, as shares of the effect
    of all layers (negative effects count nothing). Per item, since a policy may choose otherwise for each; then averaged.
    """
    found = effects(run)
    if found is None:
        return []
    kind, effect = found
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
                "carried": number(float((boosted @ share).mean())),
                "best_carried": number(float(best.mean())),
                "n": len(boosted),
            }
        )
    return rows


def layers(run: RunFrame, seed: int = 0) -> dict[str, Any] | None:
    """The section ``layers`` of the summary; None where the run probed no layers."""
    table = profile(run)
    if not table:
        return None
    found = norm_effect(run, seed)
    estimate, note, kind = found or (None, "too few layers or items to relate norm to effect", None)
    return {
        "profile": table,
        "norm_effect": estimate.as_json() | {"effect": kind} if estimate else None,
        "chosen": chosen(run),
        "choices": choices(run),
        "note": note,
    }
