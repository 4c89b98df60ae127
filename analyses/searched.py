"""What the search covered: the gains at which failures were read, and the gain that breaks the model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from override_gap.analyses.causes import Causes
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, points_of, truth, values
from override_gap.analyses.stats.estimate import Estimate, json_number
from override_gap.analyses.stats.intervals import mean


@dataclass(frozen=True)
class GainCost:
    """What the adapters of failing conflicts cost at one gain, a mean over their documents: KL to the base and answers kept.

    Both are read per document on a few questions that it is not about and on the base's own text, so that they are not the
    KL and the retention of the run's retention items. `broken` of the `documents` are above the bound there.
    """

    gain: float
    documents: int
    kl: Estimate
    kept: Estimate
    broken: int

    def as_json(self) -> dict[str, Any]:
        """Row of ``verdict.searched.costs``."""
        shares = {"kl": self.kl.as_json(), "kept": self.kept.as_json()}
        return {"gain": self.gain, "documents": self.documents, **shares, "broken": self.broken}


@dataclass(frozen=True)
class Searched:
    """What the search covered: the range of gains at which failures were read, and the gain that breaks the model.

    `breaks` is the median over documents of the least gain that broke the model, infinite where most were never broken;
    `undecided` counts failures whose search ended before an answer came first or the model broke, `next_gain` is the one
    to try for them; `costs` are of the gains at which every one of these documents' adapters was read for its cost.
    """

    low: float
    high: float
    breaks: float
    undecided: int
    next_gain: float | None = None
    costs: tuple[GainCost, ...] = ()

    def __str__(self) -> str:
        at = (
            f"breaks the model at a median gain of {self.breaks:g}"
            if np.isfinite(self.breaks)
            else "never breaks the model there"
        )
        return f"the search read gains from {self.low:g} to {self.high:g}; the adapter {at}"

    def as_json(self) -> dict[str, Any]:
        """The rows ``verdict.searched`` of the summary."""
        return {
            "low": self.low,
            "high": self.high,
            "breaks": json_number(self.breaks),
            "undecided": self.undecided,
            "next_gain": self.next_gain,
            "costs": [cost.as_json() for cost in self.costs],
        }


def searched(run: RunFrame, found: Causes) -> Searched:
    """What the search of the method's own adapters covered."""
    rows = run.search[run.search["condition"] == DELIVERED]
    read = values(rows["gain"])[rows["net_margin"].notna()]
    # one adapter serves all items of a document, so that each document counts once
    documents = run.select("conflict", DELIVERED).set_index("item")["document"]
    named = rows.assign(document=documents.reindex(rows["item"]).to_numpy(), broke=truth(rows["broken"]) == 1)
    least = named[named["broke"]].groupby("document")["gain"].min()
    breaks = least.reindex(named["document"].unique()).fillna(np.inf).median()
    left = int((found.items["cause"] == "undecided").sum())
    high = float(read.max()) if len(read) else 1.0
    low, next_gain = float(read.min()) if len(read) else 1.0, 2 * high if left else None
    return Searched(low, high, float(breaks), left, next_gain, costs(named))


def costs(rows: Table) -> tuple[GainCost, ...]:
    """The cost at every gain at which all documents were read; later ones are those of adapters that had not yet broken.

    `rows` of the search with the columns `document` and `broke`.
    """
    each = rows.drop_duplicates(["document", "gain"])
    found = []
    for gain, at in each.groupby("gain", sort=True):
        kl, kept = values(at["kl"]), values(at["kept"])
        if len(at) == rows["document"].nunique() and np.isfinite(kl).all():
            points = points_of(at)
            moved = bounded(mean("KL to the base", kl, points, units="nats per token"), np.inf)
            unmoved = bounded(mean("kept", kept, points), 1.0)
            found.append(GainCost(float(gain), len(at), moved, unmoved, int(at["broke"].sum())))
    return tuple(found)


def bounded(estimate: Estimate, most: float) -> Estimate:
    """A mean whose limits lie in 0..most; without an interval where nothing varies, since that is no certainty."""
    if math.isnan(estimate.low):
        return estimate
    if estimate.low == estimate.high:
        return replace(estimate, low=np.nan, high=np.nan, clusters=None, caveats=("no variation between documents",))
    return replace(estimate, low=max(0.0, estimate.low), high=min(most, estimate.high))
