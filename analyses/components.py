"""Which components carry the adapter margin, and what the base's own layers add against it further up."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from override_gap.analyses.constancy import slope
from override_gap.analyses.layers import conflict_layers, matrix
from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, points_of, values
from override_gap.analyses.results import ResultSection, estimate_text
from override_gap.analyses.stats.bootstrap import bootstrap
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import mean

PARTS = ("own", "response", "rest", "norm")
"""What a component's share of the adapter margin is made of; they add up to `change`."""
WHOLE = ("embedding", "attention", "mlp")
"""The components that add up to the margin; heads and biases are parts of attention."""
HEADS = 10
KEY = ["item", "layer", "component", "head"]


def changes(run: RunFrame) -> Table:
    """One row per measured conflict and component, nats, positive towards the document's answer.

    change = base - adapted of `attribution`, whose sum over components is the adapter margin before any logit cap:
    `norm` by the final norm's scale alone, `own` by the layer's updates on the base's stream, `response` by the base's own
    layer on the adapted model's stream, `rest` by the updates acting on what that stream has changed.
    """
    rows = run.table("components")
    known = set(run.select("conflict", DELIVERED)["item"])
    rows = rows[rows["item"].isin(known)]
    adapted = rows[rows["condition"] == DELIVERED]
    base = rows.loc[rows["condition"] == BASE, [*KEY, "attribution"]].rename(columns={"attribution": "base"})
    both = adapted.merge(base, on=KEY, how="inner", validate="one_to_one")
    numbers = {name: values(both[name]) for name in ("base", "attribution", "rescaled", "own", "response")}
    change = numbers["base"] - numbers["attribution"]
    norm = numbers["base"] - numbers["rescaled"]
    own, response = -numbers["own"], -numbers["response"]
    rest = change - norm - own - response
    return both.assign(change=change, norm=norm, own=own, response=response, rest=rest)


def components(run: RunFrame, seed: int = 0) -> ResultSection | None:
    """The section ``components`` of the summary; None where the run has no components."""
    table = changes(run)
    if table.empty:
        return None
    whole = table[table["component"].isin(WHOLE)]
    totals = {name: _mean(name, whole, name) for name in ("change", *PARTS)}
    by_kind = {
        f"response, {kind}": _mean(f"response, {kind}", whole[whole["component"] == kind], "response")
        for kind in ("attention", "mlp")
    }
    share = _answered(whole, seed)
    content = {
        "totals": [{"part": name, **estimate.as_json()} for name, estimate in {**totals, **by_kind}.items()],
        "answered": share.as_json(),
        "slopes": _slopes(run, whole),
        "layers": _by_layer(whole),
        "heads": _largest_heads(table),
        "alone": _passed_on(run, whole),
        "note": _note(totals["response"]),
    }
    lines = [f"{row['part']}: {estimate_text(row)}" for row in content["totals"]]
    return ResultSection("Components", content, "layers", (*lines, str(share), f"note: {content['note']}"))


def _mean(name: str, rows: Table, column: str) -> Estimate:
    """Mean over conflicts of a column summed over an item's components."""
    sums, points = _per_item(rows, column)
    return mean(name, sums, points, units="nats")


def _per_item(rows: Table, column: str) -> tuple[Float[np.ndarray, " n"], Shaped[np.ndarray, " n"]]:
    """A column summed over an item's components, and the items' points."""
    sums = rows.groupby("item", sort=True)[column].sum()
    about = rows.drop_duplicates("item").set_index("item").loc[sums.index]
    return sums.to_numpy(float), points_of(about)


def _answered(rows: Table, seed: int) -> Estimate:
    """-response / (own + rest): the share of what the updates write that the base's own layers take back; negative: they add."""
    response, points = _per_item(rows, "response")
    written = _per_item(rows, "own")[0] + _per_item(rows, "rest")[0]

    def ratio(weights: Float[np.ndarray, "replicate n"]) -> Float[np.ndarray, " replicate"]:
        return -(weights @ response) / (weights @ written)

    return bootstrap("share taken back", ratio, points, seed)


def _slopes(run: RunFrame, rows: Table) -> list[dict[str, Any]]:
    """How much of one more nat of prior margin each part takes back: slopes over items, which add up to that of `change`.

    The slope of the net margin is that of `change` less 1 where no logit cap lies between.
    """
    prior = run.select("conflict", DELIVERED).set_index("item")["prior_margin"].astype(float)
    table = []
    for name in ("change", *PARTS):
        sums, points = _per_item(rows, name)
        x = prior.loc[sorted(set(rows["item"]))].to_numpy()
        table.append({"part": name, **slope(name, x, sums, points).estimate.as_json()})
    return table


def _by_layer(rows: Table) -> list[dict[str, Any]]:
    """One row per layer and component, and one for the whole `layer`: the mean of each part with its interval."""
    table = []
    for layer, of_layer in rows.groupby("layer", sort=True):
        groups = {str(component): group for component, group in of_layer.groupby("component", sort=True)}
        if layer >= 0:
            groups["layer"] = of_layer
        for component, group in groups.items():
            bands = {name: _band(_mean(name, group, name)) for name in ("change", *PARTS)}
            table.append({"layer": int(layer), "component": component, **bands})
    return table


def _band(estimate: Estimate) -> dict[str, float | None]:
    numbers = estimate.as_json()
    return {"mean": numbers["value"], "low": numbers["low"], "high": numbers["high"]}


def _largest_heads(table: Table) -> list[dict[str, Any]]:
    """The heads whose share of the margin changes most, by the size of the mean; chosen on these items."""
    heads = table[table["component"] == "head"]
    if heads.empty:
        return []
    sizes = heads.groupby(["layer", "head"])["change"].mean().abs().sort_values(ascending=False, kind="stable")
    rows = []
    for layer, head in sizes.index[:HEADS]:
        group = heads[(heads["layer"] == layer) & (heads["head"] == head)]
        bands = {name: _band(mean(name, group[name].to_numpy(float), points_of(group))) for name in ("change", *PARTS)}
        rows.append({"layer": int(layer), "head": int(head), **bands})
    return rows


def _passed_on(run: RunFrame, whole: Table) -> list[dict[str, Any]]:
    """Per layer, the adapter margin of its updates alone minus their `own`: what layers above and the final norm add to it.

    With one layer's updates alone the stream that enters it is the base's, as for `own`. Empty without the probe `causal`.
    """
    alone = matrix(conflict_layers(run, DELIVERED), "alone")
    own = whole[whole["layer"] >= 0].groupby(["item", "layer"])["own"].sum().unstack("layer")
    items, layers = alone.index.intersection(own.index), alone.columns.intersection(own.columns)
    if len(items) == 0:
        return []
    points = points_of(whole.drop_duplicates("item").set_index("item").loc[items])
    table = []
    for layer in layers:
        together, written = alone.loc[items, layer].to_numpy(float), own.loc[items, layer].to_numpy(float)
        quantities = {"alone": together, "own": written, "beyond": together - written}
        bands = {name: _band(mean(name, numbers, points)) for name, numbers in quantities.items()}
        table.append({"layer": int(layer), **bands})
    return table


def _note(response: Estimate) -> str:
    """What the base's own layers do with the push, by the interval of their response."""
    if not np.isfinite(response.low):
        return "whether the base's own layers take back what the updates write is open here"
    if response.high < 0:
        return "the base's own layers take back a part of what the updates write"
    if response.low > 0:
        return "the base's own layers add to what the updates write; they do not take it back"
    return "whether the base's own layers take back what the updates write is open here"
