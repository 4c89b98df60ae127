"""Data of the report's item explorer: readings as columns of JSON, each text stored once, bounded in size."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.one_item import ItemMechanisms, Reading
from override_gap.analyses.readings import RunFrame
from override_gap.probes.store.schema import LAYERS, READINGS, RunTable
from override_gap.probes.store.table_checks import kind
from override_gap.reports.figures.style import as_floats
from override_gap.reports.page.explorer_items import cause_columns, meta_fields
from override_gap.reports.text import escape_control_characters, script_json

ITEMS, CONDITIONS, BYTES = 1_000, 24, 5_000_000
"""Largest number of items, of conditions, and of bytes of JSON, so that the page stays below 8 MB."""

LIMITS = (1_000_000, 20_000, 5_000, 2_000, 600, 200, 60)
"""Texts are cut at the largest of these lengths, in characters, with which all of them fit."""

KINDS = {"text": str, "true or false": bool, "numbers": float}
DIGITS = 7
"""Significant digits of numbers, as many as a float32 holds."""
OF_ITEMS = {"cause": str, "repair_gain": float}
"""Columns of the items that are no column of the readings: see `cause_columns`."""
QUANTITIES = {"attribution": "moved"}
"""Columns of layers that the page shows as another quantity: of attribution, base minus adapted."""


def shown_columns(table: RunTable, where: str) -> dict[str, type]:
    """Names and kinds of the columns that a table's schema states as shown once per item, condition or layer."""
    return {column.name: KINDS[kind(column.type)] for column in table.columns if column.shown == where}


def explorer(run: RunFrame, summary: Mapping, most: int = ITEMS) -> dict[str, Any]:
    """Columns for the page's script, of at most `most` items.

    `texts` holds each text once; in a column named in `textual` a value is an index into it. `items` has one list per
    column, `meta` one per field of the items' meta, `readings` one per column and condition, `layers` one per quantity and
    item, `mechanism` one per kind of reading and item, all in the order of items. `name` is for the names of exported files.
    """
    readings = run.readings
    conditions = [name for name in run.manifest.get("conditions", []) if (readings["condition"] == name).any()]
    stored = readings[["item", "condition"]].sort_index(kind="stable")  # units mix splits and relations
    conditions += [name for name in stored["condition"].unique() if name not in conditions]
    names = list(dict.fromkeys(stored["item"]))
    items, shown = names[:most], conditions[:CONDITIONS]
    # an item's first row as stored is the base's, which has numbers where an adapter's failed
    readings = readings[readings["item"].isin(items)].sort_index(kind="stable")
    pool: dict[str, int] = {}
    data = {
        "name": file_name(run.manifest),
        "conditions": [escape_control_characters(name) for name in shown],
        "textual": [
            name
            for where in ("item", "condition")
            for name, type_ in shown_columns(READINGS, where).items()
            if type_ is str
        ]
        + [name for name, type_ in OF_ITEMS.items() if type_ is str],
        "truths": [
            name
            for where in ("item", "condition")
            for name, type_ in shown_columns(READINGS, where).items()
            if type_ is bool
        ],
        "left_out": {
            "items": len(names) - len(items),
            "conditions": [escape_control_characters(name) for name in conditions[CONDITIONS:]],
        },
        "items": _item_columns(readings, items, pool)
        | {name: _json_values(values, OF_ITEMS[name], pool) for name, values in cause_columns(run, items).items()},
        "meta": [
            {**field, "values": _json_values(field["values"], KINDS[field["kind"]], pool)}
            for field in meta_fields(readings, items)
        ],
        "readings": _reading_columns(readings, items, shown, pool),
        "layers": _layer_columns(run.layers, items),
        "mechanism": _mechanism_columns(run, items),
    }
    room_bytes = BYTES - len(script_json(data).encode())
    texts = _fitting_texts(list(pool), room_bytes)
    if texts is None:
        return explorer(run, summary, most // 2)
    return {**data, "texts": texts}


def file_name(manifest: Mapping) -> str:
    """Model and adapters of a run in letters, digits and hyphens, as the beginning of a file's name."""
    names = [str((manifest.get(part) or {}).get("name") or part) for part in ("subject", "adapters")]
    return re.sub(r"[^A-Za-z0-9]+", "-", " ".join(names)).strip("-")[:80].lower() or "run"


def _item_columns(readings: Any, items: list[str], pool: dict[str, int]) -> dict[str, list]:
    first = readings.drop_duplicates("item").set_index("item").reindex(items)
    first["item"] = items
    if "critical_gain" in readings:
        # Bisection runs once per item, and its result is in the as-delivered row.
        delivered = readings[readings["condition"] == "as-delivered"].drop_duplicates("item").set_index("item")
        first["critical_gain"] = delivered["critical_gain"].reindex(items)
    return {
        name: _json_values(first[name], type_, pool)
        for name, type_ in shown_columns(READINGS, "item").items()
        if name in first
    }


def _reading_columns(
    readings: Any, items: list[str], conditions: list[str], pool: dict[str, int]
) -> dict[str, list[list]]:
    types = {name: type_ for name, type_ in shown_columns(READINGS, "condition").items() if name in readings}
    columns: dict[str, list[list]] = {name: [] for name in types}
    for condition in conditions:
        rows = readings[readings["condition"] == condition].drop_duplicates("item").set_index("item").reindex(items)
        for name, type_ in types.items():
            columns[name].append(_json_values(rows[name], type_, pool))
    return columns


def _layer_columns(layers: Any, items: list[str]) -> dict[str, Any]:
    """Per item and layer as delivered: update norm, attribution moved (base minus adapted), direct write in nats."""
    if layers is None or not len(layers):
        return {}
    base = layers[layers["condition"] == "base"].drop_duplicates(["item", "layer"]).set_index(["item", "layer"])
    delivered = (
        layers[layers["condition"] == "as-delivered"].drop_duplicates(["item", "layer"]).set_index(["item", "layer"])
    )
    before = as_floats(base["attribution"].reindex(delivered.index))
    delivered = delivered.assign(moved=before - as_floats(delivered["attribution"]))
    depths = sorted({int(layer) for layer in delivered.index.get_level_values("layer")})
    columns: dict[str, Any] = {"layer": depths}
    for name in (QUANTITIES.get(name, name) for name in shown_columns(LAYERS, "layer")):
        if name not in delivered:
            continue
        wide = delivered[name].astype(float).unstack("layer").reindex(index=items, columns=depths)
        columns[name] = [
            _json_values(row, float, {}) if np.isfinite(row).any() else None for row in wide.to_numpy(dtype=float)
        ]
    return columns


def _mechanism_columns(run: RunFrame, items: list[str]) -> dict[str, list]:
    """Per item: readings by gain [gain, net margin, first], by dose [dose, net margin, first, base's margin], layer shares.

    Only where a dose of prior or a gain path was read; what was read at a condition's gain stands in the readings as well.
    """
    if not len(run.table("prior_dose")) and not as_floats(run.layers["path"]).notna().any():
        return {}
    mechanisms = ItemMechanisms(run, items)
    columns: dict[str, list] = {"gains": [], "doses": [], "shares": []}
    for name in items:
        item = mechanisms.of(name)
        for column in columns.values():
            column.append(None)
        if item is None or (not item.doses and item.by != "path"):
            continue
        columns["gains"][-1] = [_reading(row)[:3] for row in item.gains]
        columns["doses"][-1] = [_reading(row) for row in item.doses] or None
        columns["shares"][-1] = [[row.layer, _json_number(row.share)] for row in item.shares] or None
    return columns


def _reading(row: Reading) -> list:
    base = None if row.base_margin is None else _json_number(row.base_margin)
    return [_json_number(row.at), _json_number(row.net_margin), None if row.first is None else int(row.first), base]


def _fitting_texts(texts: list[str], size: int) -> list[str] | None:
    """The texts with control characters escaped, cut at one length where they exceed `size` bytes; None if none fits."""
    lengths = np.array([len(text) for text in texts])
    for limit in LIMITS:
        if np.minimum(lengths, limit).sum() > size:
            continue
        shown = [escape_control_characters(_cut(text, limit)) for text in texts]
        if len(script_json(shown).encode()) <= size:
            return shown
    return None


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]} \u2026 [the first {limit:,} of {len(text):,} characters; the rest is in readings/*.parquet]"


def _json_values(column: Any, type_: type, pool: dict[str, int]) -> list:
    """A column as JSON values: text as its index in the pool, truth as 0 or 1, numbers to DIGITS digits."""
    convert: Callable[[Any], Any]
    if type_ is str:
        convert = lambda value: pool.setdefault(str(value), len(pool))  # noqa: E731
    elif type_ is bool:
        convert = int
    else:
        convert = _json_number
    values = column.astype(object).tolist() if hasattr(column, "astype") else list(column)
    return [None if value is None or value is pd.NA or value != value else convert(value) for value in values]


def _json_number(value: Any) -> float | str:
    number = float(value)
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else ("inf" if number > 0 else "-inf")
