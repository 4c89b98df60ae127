"""A run's adapters against each other: how much of each is its document's own, and whether all documents share one adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from override_gap.analyses.readings import RunFrame, Table, points_of, values
from override_gap.analyses.results import ResultSection, estimate_text
from override_gap.analyses.stats.estimate import Estimate, json_number, missing
from override_gap.analyses.stats.intervals import mean
from override_gap.margins.items.item import Document
from override_gap.probes.store.schema import TABLES

ONE_ADAPTER = 0.05
"""Own share below which, by its upper limit, the documents are said to share one adapter."""
ONE_RELATION = "all documents of a unit are of one relation, so that what its documents share counts as common to all"
PER_LAYER = ("effective_rank", "n_unit", "stable_rank", "overlap", "overlap_random")


def geometry(run: RunFrame) -> ResultSection | None:
    """Own share of the squared norm, cosines by relation, and the layers; None where no two documents were compared."""
    rows, points = document_layers(run), DocumentPoints.of(run)
    if rows.empty:
        return None
    kind = "other" if rows["inner_other"].notna().any() else "same"
    if rows[f"inner_{kind}"].isna().all():
        return None
    whole = rows.groupby("document", sort=True)[["norm_squared", f"inner_{kind}"]].sum(min_count=1)
    squared, inner = values(whole["norm_squared"]), values(whole[f"inner_{kind}"])
    own = own_share("own share of the squared norm", squared, inner, points(whole.index))
    cosine = {name: _cosine(rows, name, points) for name in ("same", "other")}
    layers = sorted(
        rows["layer"].unique()
    )  # one after the other: groupby copies the whole table, which a large run has no room for
    content: dict[str, Any] = {
        "documents": len(whole),
        "pairs": kind,
        "own_share": own.as_json(),
        "one_adapter": one_adapter(own, cosine[kind]),
        **{f"cosine_{name}": estimate.as_json() for name, estimate in cosine.items()},
        "layers": [_layer(int(layer), rows[rows["layer"] == layer], kind, points) for layer in layers],
        "says": None,
    }
    content["says"] = says(content)
    lines = [f"own share of the squared norm: {estimate_text(content['own_share'])}"]
    lines += [f"mean cosine, {name} relation: {estimate_text(content[f'cosine_{name}'])}" for name in ("same", "other")]
    lines += [f"note: {ONE_RELATION}"] if kind == "same" else []
    lines += [content["says"]] if content["says"] else []
    return ResultSection("Adapters against each other", content, "layers", tuple(lines))


@dataclass(frozen=True)
class DocumentPoints:
    """The knowledge point of each document, with the higher cluster that it lies in, by the document's key.

    Where several points ask about one document, the first of a question that is about what it states.
    """

    by_key: Mapping[str, Any]

    @classmethod
    def of(cls, run: RunFrame) -> DocumentPoints:
        """Those of a run's documents."""
        columns = ["item", "split", "point", "cluster", "document"]
        asked = run.readings[columns].drop_duplicates("item").dropna(subset=["document"])
        order = np.lexsort((asked["item"].to_numpy(dtype=str), (asked["split"] == "retention").to_numpy()))
        texts, labels = asked["document"].to_numpy(dtype=object), points_of(asked)
        found: dict[str, Any] = {}
        for n in order:
            found.setdefault(texts[n], labels[n])
        return cls({Document(str(text)).key: label for text, label in found.items()})

    def __call__(self, keys: Table) -> Shaped[np.ndarray, " n"]:
        """The points of some documents; pandas would turn them into plain strings, which know no relation."""
        labels = np.empty(len(keys), dtype=object)
        labels[:] = [self.by_key[key] for key in keys]
        return labels


def document_layers(run: RunFrame) -> Table:
    """The table `geometry` as numbers; documents that no item asks about are left out."""
    stored = run.extra.get("geometry", pd.DataFrame(columns=["document"]))
    absent = [name for name in TABLES["geometry"].names if name not in stored.columns]
    # numbers, not the None of `table`, and one column for all of them: each takes as much room as one that was measured
    rows = stored.assign(**dict.fromkeys(absent, pd.Series(np.nan, index=stored.index)))
    asked = rows["document"].isin(DocumentPoints.of(run).by_key)
    rows = rows if asked.all() else rows[asked]
    others = (name for name in rows.columns if name not in ("document", "relation") and rows[name].dtype == object)
    return rows.assign(**{name: values(rows[name]) for name in others})


def own_share(
    name: str, squared: Float[np.ndarray, " n"], inner: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"]
) -> Estimate:
    """1 - mean <i, j> / mean <i, i>, with the interval of its linearisation; `inner`: each document's mean over its pairs.

    A document is in the pairs of all others, so that its own mean product h_i moves the mean over pairs U by twice its
    share (Hoeffding 1948): 1 - U/V varies as the mean of 1 - U/V - 2 (h_i - U) / V + (v_i - V) U / V^2.
    """
    keep = np.isfinite(squared) & np.isfinite(inner)
    v, h = squared[keep], inner[keep]
    if not len(v) or not v.mean() > 0:
        return missing(name, "no two documents were compared")
    common = h.mean() / v.mean()
    moved = 1 - common - 2 * (h - h.mean()) / v.mean() + common * (v - v.mean()) / v.mean()
    return mean(name, moved, points[keep])


def one_adapter(own: Estimate, cosine: Estimate) -> bool:
    """Whether the documents all but share one adapter, or one direction at different strengths.

    By the limits of the intervals: the own share is below ONE_ADAPTER, or the mean cosine above 1 - ONE_ADAPTER.
    """
    return bool(own.high < ONE_ADAPTER or cosine.low > 1 - ONE_ADAPTER)


def says(content: dict[str, Any]) -> str | None:
    """What the first screen says of adapters that are all but one; None where they are not."""
    if not content["one_adapter"]:
        return None
    own, compared = content["own_share"], f"({content['documents']} documents compared)"
    if own["high"] is not None and own["high"] < ONE_ADAPTER:
        share = max(100 * own["high"], 0.01)
        return (
            f"one adapter for all documents: at most {share:.2g}% of an adapter's squared norm is its document's own "
            f"{compared}"
        )
    least = content[f"cosine_{content['pairs']}"]["low"]
    return (
        "one adapter for all documents, at different strengths: the mean cosine between adapters of different documents is at "
        f"least {least:.2f} {compared}"
    )


def _cosine(rows: Table, kind: str, points: DocumentPoints) -> Estimate:
    """Mean cosine over pairs and layers, each layer as it weighs in the squared norm; the interval as for `own_share`."""
    rows = rows.loc[rows[f"cosine_{kind}"].notna(), ["document", f"cosine_{kind}", "norm_squared"]]
    name = f"mean cosine with documents of {'the same' if kind == 'same' else 'another'} relation"
    if rows.empty:
        return missing(name, "no two documents were compared")
    weighted = rows.assign(cosine=rows[f"cosine_{kind}"] * rows["norm_squared"])
    sums = weighted.groupby("document", sort=True)[["cosine", "norm_squared"]].sum()
    cosine = sums["cosine"].to_numpy() / sums["norm_squared"].to_numpy()
    return mean(name, _pairwise(cosine), points(sums.index))


def _pairwise(by_document: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Values whose clustered mean has the variance of a mean over pairs of documents."""
    return by_document.mean() + 2 * (by_document - by_document.mean())


def _layer(layer: int, rows: Table, kind: str, points: DocumentPoints) -> dict[str, Any]:
    """One layer: root mean square norm, own share with its interval, cosines, and what was read of the weights."""
    counted = [int(values(rows[name])[rows["intruders"].notna()].sum()) for name in ("intruders", "looked_at")]
    squared, inner = values(rows["norm_squared"]), values(rows[f"inner_{kind}"])
    seen = bool(rows["intruders"].notna().any())
    return {
        "layer": layer,
        "norm": json_number(np.sqrt(squared.mean())),
        "own_share": own_share(f"own share at layer {layer}", squared, inner, points(rows["document"])).as_json(),
        **{name: _mean(values(rows[name])) for name in ("cosine_same", "cosine_other", *PER_LAYER)},
        "intruders": counted[0] if seen else None,
        "looked_at": counted[1] if seen else None,
    }


def _mean(numbers: Shaped[np.ndarray, " n"]) -> float | None:
    kept = numbers[np.isfinite(numbers)]
    return json_number(kept.mean()) if len(kept) else None
