"""Rows of the gain path: what each layer and each map of an adapter adds to the adapter margins of a batch as delivered."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.items.item import Item
from override_gap.probes.attach.stack import part_stacks
from override_gap.probes.readings.margin_path import OPEN, MarginPath, read_margin_path
from override_gap.probes.run.batch import ItemBatch
from override_gap.probes.run.condition_readings import ConditionReadings
from override_gap.probes.store.mechanism_tables import MAPS


@dataclass(frozen=True)
class PathRows:
    """What a batch's gain path adds: columns of its layers, rows of the table of maps, and what could not be split."""

    layers: dict[str, Float[Tensor, "batch layer"]] = field(default_factory=dict)
    maps: list[dict[str, Any]] = field(default_factory=list)
    unread: tuple[dict[str, str], ...] = ()

    def tables(self, left_out: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """The rows of maps by the name of their table, but those of some items."""
        rows = [row for row in self.maps if row["item"] not in left_out]
        return {MAPS.name: rows} if rows else {}


def read_path(batch: ItemBatch, under: ConditionReadings, table: Sequence[dict[str, Any]]) -> PathRows:
    """Split the adapter margins of a batch as delivered, and say in its rows of readings how many nodes that took."""
    subject = batch.setup.subject
    adapters = [adapter for adapter in batch.own_adapters if isinstance(adapter, Adapter)]
    path = read_margin_path(subject, batch.prior, part_stacks(subject, adapters), under.state)
    if isinstance(path, str):
        return PathRows(unread=({"probe": "gain-path", "reason": path},))
    measured = [row["status"] == "ok" for row in table]
    for n, row in enumerate(table):
        if measured[n]:
            row |= {"path_nodes": int(path.nodes[n]), "path_gap": float(path.gap[n])}
    still_open = [batch.items[n].id for n, closed in enumerate(path.closed.tolist()) if measured[n] and not closed]
    return PathRows(
        path.by_layer(subject.n_layers),
        [row for n, item in enumerate(batch.items) if measured[n] for row in _maps(path, n, item)],
        (_still_open(still_open, sum(measured)),) if still_open else (),
    )


def _still_open(names: Sequence[str], of: int) -> dict[str, str]:
    """Which of the items that were read together have no shares, and why."""
    return {"probe": "gain-path", "reason": f"{len(names)} of {of} items read together ({', '.join(names)}): {OPEN}"}


def map_of(path: str) -> str:
    """The path of an update within its block: what follows the number of the layer."""
    return re.sub(r"^(?:.*?\.)??[0-9]{1,9}\.", "", path, count=1)


def _maps(path: MarginPath, row: int, item: Item) -> list[dict[str, Any]]:
    """The rows of one item; none where its shares do not add up."""
    if not path.closed[row]:
        return []
    push, pull, first = (values[row].double().tolist() for values in (path.push, path.pull, path.first))
    identity = {"item": item.id, "point": item.point, "split": item.split}
    return [
        {
            **identity,
            "layer": layer_of(name),
            "map": map_of(name),
            "part": part,
            "path": push[n] - pull[n],
            "path_push": push[n],
            "path_pull": pull[n],
            "path_first": first[n],
        }
        for n, (part, name) in enumerate(path.sites)
    ]
