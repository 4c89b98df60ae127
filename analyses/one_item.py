"""One item: its net margin by gain of the adapter, by dose of prior, and layer by layer; and the item that a report shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, gain_of, once_per_run, truth, values
from override_gap.analyses.results import rows_frame
from override_gap.analyses.stats.estimate import HtmlRepr, json_number
from override_gap.margins.text import plural

READ = [
    "item", "condition", "question", "answer", "prior_answer", "prior_margin", "adapter_margin", "net_margin", "success_top1",
]  # fmt: skip
"""Columns that an item's mechanism is made of."""


@dataclass(frozen=True)
class Reading:
    """One reading: at a gain, or at a dose (what the belief update moved); net margin in nats; whether y_doc comes first.

    `base_margin` is the base's own M = prior margin under the dose; None where the reading is at a gain.
    """

    at: float
    net_margin: float
    first: bool | None
    base_margin: float | None = None


@dataclass(frozen=True)
class LayerShare:
    """What a layer adds to the adapter margin, nats; layer -1: the embedding and constants of an attribution."""

    layer: int
    share: float


@dataclass(frozen=True)
class ItemMechanism(HtmlRepr):
    """One conflict's readings. `shares` sum to the adapter margin: `by` says how they were made, path or attribution."""

    item: str
    question: str
    answer: str
    prior_answer: str | None
    prior_margin: float
    adapter_margin: float
    gains: tuple[Reading, ...]
    doses: tuple[Reading, ...]
    shares: tuple[LayerShare, ...]
    by: str | None

    def __str__(self) -> str:
        return (
            f"{self.item}: prior margin {self.prior_margin:.2f} nats, adapter margin {self.adapter_margin:.2f} nats; "
            f"read at {plural(len(self.gains), 'gain')} and {plural(len(self.doses), 'dose')}"
        )

    def frame(self) -> Any:
        """One row per reading and per layer."""
        rows = [{"of": of, **asdict(row)} for of in ("gains", "doses", "shares") for row in getattr(self, of)]
        return rows_frame(rows)

    def as_json(self) -> dict[str, Any]:
        """The section ``one_item`` of the summary."""
        content = asdict(self)
        for name in ("gains", "doses", "shares"):
            content[name] = [{k: _plain(v) for k, v in row.items()} for row in content[name]]
        return content


def _plain(value: Any) -> Any:
    return json_number(value) if isinstance(value, float) else value


@dataclass(frozen=True, eq=False)
class ItemMechanisms:
    """The readings of some of a run's conflicts, item by item: grouped once, so that a page can ask for each of its items."""

    run: RunFrame
    items: Collection[str]

    def of(self, item: str) -> ItemMechanism | None:
        """One conflict of `items`; None where it was not measured as delivered."""
        delivered = self._readings.get((item, DELIVERED))
        if delivered is None:
            return None
        layers, by = self._shares(item)
        return ItemMechanism(
            item,
            str(delivered["question"] or ""),
            str(delivered["answer"] or ""),
            None if delivered["prior_answer"] is None else str(delivered["prior_answer"]),
            float(delivered["prior_margin"]),
            float(delivered["adapter_margin"]),
            self._gains(item),
            dose_readings(self.run).get(item, ()),
            layers,
            by,
        )

    @cached_property
    def _readings(self) -> dict[tuple[str, str], Any]:
        named = [
            rows for (split, name), rows in self.run.cells.items() if split == "conflict" and gain_of(name) is not None
        ]
        asked = [rows.loc[rows["item"].isin(self.items), READ] for rows in named]
        rows = pd.concat(asked) if asked else self.run.measured.iloc[:0]
        return {(row["item"], row["condition"]): row for row in rows.to_dict("records")}

    @cached_property
    def _gain_of(self) -> dict[str, float]:
        named = {str(name): gain_of(str(name)) for name in self.run.conditions}
        return {name: gain for name, gain in named.items() if gain is not None}

    @cached_property
    def _searched(self) -> dict[str, list[Reading]]:
        rows = self.run.search
        rows = rows[(rows["condition"] == DELIVERED) & rows["net_margin"].notna() & rows["item"].isin(self.items)]
        found: dict[str, list[Reading]] = {}
        for item, gain, net, first in zip(
            rows["item"], values(rows["gain"]), values(rows["net_margin"]), truth(rows["success_top1"]), strict=True
        ):
            found.setdefault(str(item), []).append(Reading(float(gain), float(net), _truth(first)))
        return found

    def _gains(self, item: str) -> tuple[Reading, ...]:
        """Readings by gain, ascending; the conditions' own, and what the search read at other gains."""
        by_gain: dict[float, Reading] = {reading.at: reading for reading in self._searched.get(item, ())}
        for name, gain in self._gain_of.items():
            row = self._readings.get((item, name))
            if row is not None and np.isfinite(row["net_margin"]):
                by_gain[gain] = Reading(gain, float(row["net_margin"]), _truth(row["success_top1"]))
        return tuple(reading for _, reading in sorted(by_gain.items()))

    @cached_property
    def _layers(self) -> dict[str, Table]:
        rows = self.run.layers
        kept = rows[
            rows["item"].isin(self.items) & rows["condition"].isin((BASE, DELIVERED)) & (rows["split"] == "conflict")
        ]
        return {str(item): own for item, own in kept.groupby("item")}

    def _shares(self, item: str) -> tuple[tuple[LayerShare, ...], str | None]:
        """Shares along the path of gains where they were read, else base minus adapted attribution; both sum to the margin."""
        rows = self._layers.get(item)
        if rows is None:
            return (), None
        delivered = rows[rows["condition"] == DELIVERED].sort_values("layer")
        blocks = delivered[values(delivered["layer"]) >= 0]
        shares, by, numbers = values(blocks["path"]), "path", blocks["layer"]
        if not len(shares) or not np.isfinite(shares).all():
            base = rows[rows["condition"] == BASE].set_index("layer")["attribution"].reindex(delivered["layer"])
            shares, by, numbers = values(base) - values(delivered["attribution"]), "attribution", delivered["layer"]
        if not len(shares) or not np.isfinite(shares).all():
            return (), None
        return tuple(LayerShare(int(n), float(share)) for n, share in zip(numbers, shares, strict=True)), by


def _truth(value: Any) -> bool | None:
    return None if value is None or value != value else bool(value)


@once_per_run
def dose_readings(run: RunFrame) -> dict[str, tuple[Reading, ...]]:
    """Each item's readings under the doses of its own belief update that were reached, ascending, as delivered."""
    rows = run.table("prior_dose")
    rows = rows[(rows["arm"] == "own") & (rows["condition"] == DELIVERED) & (truth(rows["reached"]) == 1.0)]
    found: dict[str, list[Reading]] = {}
    columns = [values(rows[name]) for name in ("moved", "net_margin", "prior_margin")]
    for item, moved, net, prior, first in zip(rows["item"], *columns, truth(rows["success_top1"]), strict=True):
        if np.isfinite([moved, net, prior]).all():
            found.setdefault(str(item), []).append(Reading(float(moved), float(net), _truth(first), float(prior)))
    return {item: tuple(sorted(readings, key=lambda r: r.at)) for item, readings in found.items()}


def one_item(run: RunFrame) -> ItemMechanism | None:
    """The item that a report shows: of the known conflicts that fail as delivered, the one of median net margin.

    Of those, only the ones with readings under the most doses are taken; where none fails, all known conflicts are. None where
    no known conflict was measured as delivered.
    """
    rows = run.select("conflict", DELIVERED, "known")
    rows = rows[np.isfinite(values(rows["net_margin"]))]
    failing = rows[truth(rows["success_top1"]) == 0.0]
    rows = failing if len(failing) else rows
    if rows.empty:
        return None
    doses = dose_readings(run)
    counts = [len(doses.get(str(item), ())) for item in rows["item"]]
    rows = rows[np.array(counts) == max(counts)]
    name = median_item(list(rows["item"].astype(str)), values(rows["net_margin"]))
    return ItemMechanisms(run, (name,)).of(name)


def median_item(names: Sequence[str], numbers: Any) -> str:
    """The name of the middle one by number, the lower of two, ties by name."""
    ordered = sorted(zip(numbers, names, strict=True))
    return ordered[(len(ordered) - 1) // 2][1]
