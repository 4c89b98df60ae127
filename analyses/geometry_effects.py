"""What an adapter is beside what it does, over documents: does its geometry, or its effect on neutral text, predict effect?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from override_gap.analyses.causes import HELD, causes
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, truth, values
from override_gap.analyses.results import ResultRows
from override_gap.analyses.stats.bootstrap import bootstrap, spearman
from override_gap.analyses.stored_geometry import DocumentPoints, document_layers
from override_gap.margins.items.item import Document

FEWEST = 10
"""Documents below which a rank correlation says nothing."""
MEASURES = {
    "norm": "Frobenius norm of the whole update",
    "own share": "1 - mean inner product with other documents' updates / squared norm",
    "stable rank": "stable rank, mean over layers as they weigh in the squared norm",
    "intruders": "share of the leading singular vectors that are intruders",
    "overlap": "share of the update in the span of the weights' leading singular vectors, less that by chance",
    "neutral KL": "KL(f || g) on neutral text, nats per token",
    "neutral rise of the answer": "rise of the document's own answer on neutral text, nats",
    "neutral length": "relative change of the stream's length on neutral text, last layer",
    "neutral angle": "angle of the stream on neutral text, last layer, radians",
}
OUTCOMES = {
    "push": "mean push of the document's conflicts, nats",
    "adapter margin": "mean adapter margin of its conflicts, nats",
    "success": "share of its conflicts whose first token is the document's answer",
    "held": "of its failing known conflicts, the share that another gain repairs",
    "KL": "mean KL to the base on its unrelated questions, nats",
    "answers lost": "share of its unrelated answers that change",
}


def geometry_effects(run: RunFrame, seed: int = 0) -> ResultRows | None:
    """Rank correlation over documents of each measure with each outcome, with its interval; None where none can be given.

    Read where the probe `geometry` or `neutral` was asked for. Intervals are 95% each: of so many pairs one in twenty is
    expected to leave out zero by chance.
    """
    measures = {name: column for name, column in (_geometry(run) | _neutral(run)).items() if column.notna().any()}
    if not {"stable rank", "neutral KL"} & set(measures):
        return None
    outcomes, points = _outcomes(run), DocumentPoints.of(run)
    rows = []
    for name, measure in measures.items():
        for outcome, effect in outcomes.items():
            both: Table = pd.concat([measure, effect], axis=1, keys=["x", "y"])
            both = both.replace([np.inf, -np.inf], np.nan).dropna()
            both = both[both.index.isin(list(points.by_key))]
            if len(both) < FEWEST or not (_varies(both["x"]) and _varies(both["y"])):
                continue
            ranks = spearman(_numbers(both["x"]), _numbers(both["y"]))
            found = bootstrap(f"{name} and {outcome}", ranks, points(both.index), seed)
            # where almost every document has one outcome, some resamples have no other, and no interval can be given
            if np.isfinite([found.low, found.high]).all():
                rows.append({"measure": name, "outcome": outcome, **found.as_json()})
    return ResultRows("What an adapter is beside what it does", tuple(rows)) if rows else None


def _varies(column: Table) -> bool:
    """Whether a column holds different values, by more than rounding."""
    numbers = _numbers(column)
    return bool(np.ptp(numbers) > 1e-9 * np.abs(numbers).max())


def _numbers(column: Table) -> Float[np.ndarray, " n"]:
    return column.to_numpy(dtype=float)


def _geometry(run: RunFrame) -> dict[str, Table]:
    """Measures of the table `geometry`, by document."""
    rows = document_layers(run)
    if rows.empty:
        return {}
    kind = "other" if rows["inner_other"].notna().any() else "same"
    by_document = rows.groupby("document", sort=True)
    squared = by_document["norm_squared"].sum()

    def weighed(column: Table) -> Table:
        weights = rows["norm_squared"].where(column.notna())
        parts: Table = pd.DataFrame({"document": rows["document"], "w": weights, "x": column})
        parts = parts.assign(x=parts["x"] * parts["w"]).groupby("document")[["w", "x"]].sum(min_count=1)
        return parts["x"] / parts["w"]

    return {
        "norm": squared**0.5,
        "own share": 1 - by_document[f"inner_{kind}"].sum(min_count=1) / squared,
        "stable rank": weighed(rows["stable_rank"]),
        "intruders": by_document["intruders"].sum(min_count=1) / by_document["looked_at"].sum(min_count=1),
        "overlap": weighed(rows["overlap"] - rows["overlap_random"]),
    }


def _neutral(run: RunFrame) -> dict[str, Table]:
    """Measures of the table `neutral`, by document."""
    rows = run.table("neutral")
    if rows.empty:
        return {}
    output = rows[rows["layer"] == -1].set_index("document")
    last = rows[rows["layer"] == rows["layer"].max()].set_index("document")
    columns: dict[str, tuple[Table, str]] = {
        "neutral KL": (output, "kl"),
        "neutral rise of the answer": (output, "answer_rise"),
        "neutral length": (last, "radial"),
        "neutral angle": (last, "angle"),
    }
    return {name: pd.Series(values(of[column]), index=of.index) for name, (of, column) in columns.items()}


def _outcomes(run: RunFrame) -> dict[str, Table]:
    """What each document's adapter does as delivered, by document."""
    conflicts, unrelated = run.select("conflict", DELIVERED), run.select("retention", DELIVERED)
    found: dict[str, tuple[Table, Any]] = {
        "push": (conflicts, values(conflicts["push"])),
        "adapter margin": (conflicts, values(conflicts["adapter_margin"])),
        "success": (conflicts, truth(conflicts["success_top1"])),
        "KL": (unrelated, values(unrelated["kl"])),
        "answers lost": (unrelated, 1 - truth(unrelated["success_top1"])),
    }
    known = causes(run)
    if known is not None:
        found["held"] = (known.items, known.items["cause"].isin(HELD).to_numpy(dtype=float))
    return {
        name: pd.Series(numbers).groupby([Document(str(text)).key for text in rows["document"]]).mean()
        for name in OUTCOMES
        if name in found
        for rows, numbers in [found[name]]
        if len(rows)
    }
