"""What the page's item explorer is given: readings as compact JSON, bounded in size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.figures.style import numbers
from reports.page.text import embedded, visible

ITEMS, CONDITIONS, BYTES = 500, 24, 5_000_000
"""At most so many items and conditions, and so much JSON, so that the page stays below 8 MB and scrolls."""

STATIC = (
    "point",
    "split",
    "tier",
    "known",
    "wording",
    "frequency",
    "prior_logprob",
    "prior_margin",
    "critical_gain",
    "question",
    "document",
    "answer",
    "prior_answer",
)
VARYING = (
    "adapter_margin",
    "net_margin",
    "push",
    "pull",
    "success_margin",
    "success_top1",
    "success_answer",
    "top_token",
    "top_prob",
    "answer_text",
    "status",
    "error",
)
LONG = ("answer_text", "error", "top_token")


def explorer(run, summary: Mapping) -> dict[str, Any]:
    """`conditions`, `fields` of a reading, `items` with a reading per condition, and what was left out."""
    readings = run.readings
    conditions = [name for name in run.manifest.get("conditions", []) if (readings["condition"] == name).any()]
    conditions += [name for name in readings["condition"].unique() if name not in conditions]
    shown = conditions[:CONDITIONS]
    names = list(dict.fromkeys(readings["item"]))
    rows = readings[readings["condition"].isin(shown) & readings["item"].isin(names[:ITEMS])]
    about = {
        "conditions": [visible(name) for name in shown],
        "fields": list(VARYING),
        "left_out": {
            "items": max(0, len(names) - ITEMS),
            "conditions": [visible(name) for name in conditions[CONDITIONS:]],
        },
    }
    texts = [np.array([len(str(text)) for text in rows[name].dropna()]) for name in LONG if name in rows.columns]
    for limit in (2_000, 600, 200, 60):
        # Text is what can be large: cut it until the whole fits, and say in the text that it was cut.
        if limit > 60 and sum(np.minimum(lengths, limit).sum() for lengths in texts) > BYTES:
            continue
        data = {**about, "cut": limit, "items": _items(rows, shown, _profiles(run), limit)}
        if len(embedded(data).encode("utf-8", "replace")) <= BYTES:
            break
    return data


def _items(rows: Any, shown: list[str], profiles: Mapping, limit: int) -> list[dict]:
    there = [name for name in STATIC if name in rows.columns]
    columns = {name: _plain(rows[name], limit) for name in (*there, *(n for n in VARYING if n in rows.columns))}
    found: dict[str, dict[str, Any]] = {}
    items, conditions = rows["item"].tolist(), rows["condition"].tolist()
    for number, (item, condition) in enumerate(zip(items, conditions, strict=True)):
        own = found.get(item)
        if own is None:
            own = {"item": visible(item), "readings": [None] * len(shown), "layers": profiles.get(item)}
            own |= {name: columns[name][number] for name in there}
            found[item] = own
        elif condition == "as-delivered" and "critical_gain" in columns:
            own["critical_gain"] = columns["critical_gain"][number]
        own["readings"][shown.index(condition)] = [
            columns[name][number] if name in columns else None for name in VARYING
        ]
    return list(found.values())


def _plain(column: Any, limit: int) -> list:
    return [_value(value, limit) for value in column.astype(object).tolist()]


def _value(value: Any, limit: int) -> Any:
    """JSON's own types: text bounded and made visible, numbers to four digits, nothing infinite but its sign."""
    if value is None or value is pd.NA:
        return None
    if isinstance(value, str):
        cut = value if len(value) <= limit else f"{value[:limit]} \u2026 [{len(value):,} characters in all]"
        return visible(cut)
    if isinstance(value, (bool,)) or type(value).__name__ == "bool_":
        return bool(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return visible(str(value)[:limit])
    if math.isnan(number):
        return None
    return float(f"{number:.4g}") if math.isfinite(number) else ("inf" if number > 0 else "-inf")


def _profiles(run) -> dict[str, list]:
    """Item -> [layer, norm, attribution moved by the adapter (base minus adapted), direct] a layer, as delivered."""
    layers = run.layers
    if layers is None or not len(layers):
        return {}
    base = layers[layers["condition"] == "base"].set_index(["item", "layer"])["attribution"]
    delivered = layers[layers["condition"] == "as-delivered"].set_index(["item", "layer"])
    delivered = delivered[~delivered.index.duplicated()]
    before = numbers(base[~base.index.duplicated()].reindex(delivered.index))
    moved = before - numbers(delivered["attribution"])
    columns = [_plain(delivered["norm"], 0), _plain(moved, 0), _plain(delivered["direct"], 0)]
    found: dict[str, list] = {}
    for (item, layer), *own in zip(delivered.index, *columns, strict=True):
        found.setdefault(item, []).append([int(layer), *own])
    return {item: sorted(rows) if all(row[0] is not None for row in rows) else rows for item, rows in found.items()}
