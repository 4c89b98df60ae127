"""How strong are the adapters in units that compare across methods: of prior margins, of weights, of what breaks the model?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, points_of, values
from override_gap.analyses.results import ResultSection, estimate_text, number_text
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import mean

QUARTILES = (0.25, 0.5, 0.75)


def strength(run: RunFrame) -> ResultSection | None:
    """Adapter margin over prior margin, update norm over weight norm, and the gain that breaks the model.

    None where no known conflict has a positive prior margin. What the run does not hold is None within the section.
    """
    rows = run.select("conflict", DELIVERED, "known")
    rows = rows[values(rows["prior_margin"]) > 0]
    if rows.empty:
        return None
    margins = margin_ratio(rows)
    layers = weight_ratios(run)
    breaking = gain_to_break(run)
    lines = [f"{name.replace('_', ' ')}: {estimate_text(value.as_json())}" for name, value in margins.items()]
    if layers:
        lines.append(f"update norm over weight norm, all layers: {estimate_text(layers['all'])}")
    if breaking:
        lines.append(f"median gain to break: {gain_text(breaking['quartiles'][1])}")
    content = {
        "adapter_over_prior": {name: value.as_json() for name, value in margins.items()},
        "update_over_weight": layers,
        "gain_to_break": breaking,
    }
    return ResultSection("Strength of the adapters", content, "update_over_weight", tuple(lines))


def margin_ratio(rows: Table) -> dict[str, Estimate]:
    """D_adapter / D_prior over conflicts: the mean of the items' ratios, and the ratio of the two means.

    The interval of the ratio of means R is that of the mean of R + (a - R p) / mean(p), its linearisation. A few items of a
    prior margin near zero can make the mean of ratios large; the ratio of means does not depend on them.
    """
    adapter, prior, points = values(rows["adapter_margin"]), values(rows["prior_margin"]), points_of(rows)
    ratio = float(adapter.mean() / prior.mean())
    linearised = ratio + (adapter - ratio * prior) / prior.mean()
    return {
        "mean_of_ratios": mean("mean of adapter margin / prior margin", adapter / prior, points),
        "ratio_of_means": mean("mean adapter margin / mean prior margin", linearised, points),
    }


def weight_ratios(run: RunFrame) -> dict[str, Any] | None:
    """Norm of the updates at gain 1 over the norm of the weights that they change, per layer and over all layers.

    One value per document with a conflict; None where the run has no layers or its weights' norms were not read.
    """
    rows = run.layers[(run.layers["condition"] == DELIVERED) & (run.layers["layer"] >= 0)]
    if rows.empty or rows["weight_norm"].isna().all():
        return None
    conflicts = run.select("conflict", DELIVERED)[["item", "document", "point"]].drop_duplicates("document")
    rows = rows[["item", "layer", "norm", "weight_norm"]].merge(conflicts, on="item")
    rows = rows.assign(norm=values(rows["norm"]), weight_norm=values(rows["weight_norm"]))
    rows = rows[rows["weight_norm"] > 0]
    if rows.empty:
        return None
    by_layer = []
    for layer, at in rows.groupby("layer"):
        found = mean("update over weight", (at["norm"] / at["weight_norm"]).to_numpy(), points_of(at))
        by_layer.append(
            {"layer": int(str(layer)), "mean_weight_norm": float(at["weight_norm"].mean()), **found.as_json()}
        )
    squared = rows.assign(norm=rows["norm"] ** 2, weight_norm=rows["weight_norm"] ** 2)
    whole = squared.groupby(["item", "point"], sort=False)[["norm", "weight_norm"]].sum().reset_index()
    ratio = np.sqrt(whole["norm"].to_numpy() / whole["weight_norm"].to_numpy())
    return {"all": mean("update over weight", ratio, points_of(whole)).as_json(), "layers": by_layer}


def gain_to_break(run: RunFrame) -> dict[str, Any] | None:
    """The smallest gain read at which a document's own adapter breaks the model: quartiles over the documents that were searched.

    A document whose search ended before is censored at the last gain read for it. A quartile is `at_least` its value where
    some document was censored below it: the true one may be larger. None without a search.
    """
    own = run.search[run.search["condition"] == DELIVERED]
    if own.empty:
        return None
    documents = run.readings[run.readings["condition"] == BASE].set_index("item")["document"]
    rows = pd.DataFrame(
        {
            "document": own["item"].map(documents).fillna(own["item"]).to_numpy(),
            "gain": values(own["gain"]),
            "broken": own["broken"].fillna(False).astype(bool).to_numpy(),
        }
    )
    first: Table = rows[rows["broken"] & (rows["gain"] >= 1)].groupby("document")["gain"].min()
    last: Table = rows.groupby("document")["gain"].max()
    gains = first.reindex(last.index).to_numpy(dtype=float)
    return {
        "documents": len(last),
        "broken": int(np.isfinite(gains).sum()),
        "quartiles": [censored_quantile(gains, last.to_numpy(dtype=float), share) for share in QUARTILES],
    }


def censored_quantile(
    broken_at: Float[np.ndarray, " document"], last: Float[np.ndarray, " document"], share: float
) -> dict[str, Any]:
    """The least value that a share of gains to break does not exceed; `broken_at` is NaN where the search ended at `last`.

    Censored gains count as just above `last`, which makes the value a lower bound unless every censored one lies above it.
    """
    censored = np.isnan(broken_at)
    lower = np.where(censored, last, broken_at)
    # of equal values the broken ones come first
    order = np.lexsort((censored, lower))
    place = order[max(math.ceil(share * len(lower)) - 1, 0)]
    value = float(lower[place])
    at_least = bool(censored[order[: int(np.flatnonzero(order == place)[0]) + 1]].any())
    return {"share": share, "value": value, "at_least": at_least}


def gain_text(quartile: dict[str, Any]) -> str:
    """A quartile of the gain to break in words."""
    return ("above " if quartile["at_least"] else "") + number_text(quartile["value"])
