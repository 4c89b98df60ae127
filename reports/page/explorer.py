"""What the page's item explorer is given: readings as columns of JSON, each text stored once, bounded in size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from override_gap.reports.figures.style import numbers
from override_gap.reports.text import embedded, escape_control_characters

ITEMS, CONDITIONS, BYTES = 1_000, 24, 5_000_000
"""At most so many items and conditions, and so much JSON, so that the page stays below 8 MB."""

LIMITS = (1_000_000, 20_000, 5_000, 2_000, 600, 200, 60)
"""A text is whole where all fit; else every text is cut at the largest of these lengths that does."""

OF_ITEMS = {
    "item": str, "point": str, "split": str, "tier": str, "wording": str, "question": str, "document": str,
    "answer": str, "prior_answer": str, "known": bool, "frequency": float, "prior_logprob": float,
    "prior_margin": float, "critical_gain": float,
}  # fmt: skip
OF_READINGS = {
    "adapter_margin": float, "net_margin": float, "push": float, "pull": float, "success_margin": bool,
    "success_top1": bool, "success_answer": bool, "top_prob": float, "top_token": str, "answer_text": str,
    "status": str, "error": str,
}  # fmt: skip
OF_LAYERS = ("norm", "moved", "direct")


def explorer(run, summary: Mapping, most: int = ITEMS) -> dict[str, Any]:
    """Columns for the page's script.

    `texts` holds each text once; in a column named in `textual` a value is its place there. `items` has a list per
    column, `readings` a list per column and condition, `layers` a list per quantity and item, all in the order of items.
    """
    readings = run.readings
    conditions = [name for name in run.manifest.get("conditions", []) if (readings["condition"] == name).any()]
    conditions += [name for name in readings["condition"].unique() if name not in conditions]
    names = list(dict.fromkeys(readings["item"]))
    items, shown = names[:most], conditions[:CONDITIONS]
    pool: dict[str, int] = {}
    data = {
        "conditions": [escape_control_characters(name) for name in shown],
        "textual": [name for name, kind in (OF_ITEMS | OF_READINGS).items() if kind is str],
        "left_out": {
            "items": len(names) - len(items),
            "conditions": [escape_control_characters(name) for name in conditions[CONDITIONS:]],
        },
        "items": _of_items(readings, items, pool),
        "readings": _of_readings(readings, items, shown, pool),
        "layers": _of_layers(run.layers, items),
    }
    room = BYTES - len(embedded(data).encode())
    texts = _texts(list(pool), room)
    if texts is None:
        return explorer(run, summary, most // 2)
    return {**data, "texts": texts}


def _of_items(readings: Any, items: list[str], pool: dict[str, int]) -> dict[str, list]:
    first = readings.drop_duplicates("item").set_index("item").reindex(items)
    first["item"] = items
    if "critical_gain" in readings:
        # Bisection runs once an item, and its result stands in the row of the adapter as delivered.
        delivered = readings[readings["condition"] == "as-delivered"].drop_duplicates("item").set_index("item")
        first["critical_gain"] = delivered["critical_gain"].reindex(items)
    return {name: _plain(first[name], kind, pool) for name, kind in OF_ITEMS.items() if name in first}


def _of_readings(readings: Any, items: list[str], conditions: list[str], pool: dict[str, int]) -> dict[str, list[list]]:
    there = {name: kind for name, kind in OF_READINGS.items() if name in readings}
    columns: dict[str, list[list]] = {name: [] for name in there}
    for condition in conditions:
        own = readings[readings["condition"] == condition].drop_duplicates("item").set_index("item").reindex(items)
        for name, kind in there.items():
            columns[name].append(_plain(own[name], kind, pool))
    return columns


def _of_layers(layers: Any, items: list[str]) -> dict[str, Any]:
    """Per item and layer as delivered: update norm, attribution moved (base minus adapted), direct write in nats."""
    if layers is None or not len(layers):
        return {}
    base = layers[layers["condition"] == "base"].drop_duplicates(["item", "layer"]).set_index(["item", "layer"])
    own = layers[layers["condition"] == "as-delivered"].drop_duplicates(["item", "layer"]).set_index(["item", "layer"])
    before = numbers(base["attribution"].reindex(own.index))
    own = own.assign(moved=before - numbers(own["attribution"]))
    depths = sorted({int(layer) for layer in own.index.get_level_values("layer")})
    columns: dict[str, Any] = {"layer": depths}
    for name in filter(own.columns.__contains__, OF_LAYERS):
        wide = own[name].astype(float).unstack("layer").reindex(index=items, columns=depths)
        columns[name] = [
            _plain(row, float, {}) if np.isfinite(row).any() else None for row in wide.to_numpy(dtype=float)
        ]
    return columns


def _texts(texts: list[str], room: int) -> list[str] | None:
    """The texts made visible, cut alike where they would not fit into `room` bytes; None where nothing fits."""
    lengths = np.array([len(text) for text in texts])
    for limit in LIMITS:
        if np.minimum(lengths, limit).sum() > room:
            continue
        shown = [escape_control_characters(_cut(text, limit)) for text in texts]
        if len(embedded(shown).encode()) <= room:
            return shown
    return None


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]} \u2026 [the first {limit:,} of {len(text):,} characters; the rest is in readings/*.parquet]"


def _plain(column: Any, kind: type, pool: dict[str, int]) -> list:
    """JSON's own types: text as its place in the pool, truth as 0 or 1, numbers to four digits."""
    make: Callable[[Any], Any]
    if kind is str:
        make = lambda value: pool.setdefault(str(value), len(pool))  # noqa: E731
    elif kind is bool:
        make = int
    else:
        make = _number
    values = column.astype(object).tolist() if hasattr(column, "astype") else list(column)
    return [None if value is None or value is pd.NA or value != value else make(value) for value in values]


def _number(value: Any) -> float | str:
    number = float(value)
    return float(f"{number:.4g}") if math.isfinite(number) else ("inf" if number > 0 else "-inf")
