"""What the item explorer knows of an item beyond its readings' columns: its cause of failure, and the fields of its meta."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from override_gap.analyses.causes import causes
from override_gap.analyses.readings import RunFrame
from override_gap.reports.text import escape_control_characters

META = ("relation", "kind", "needs", "prior_from")
"""Columns of the readings that are a field of meta, all that runs of earlier versions stored of it; `frequency` and
`wording` are columns of the explorer's own."""
OWN = ("frequency", "wording")
MOST_FIELDS = 60
"""Fields of meta at most, those that most items have first."""


def cause_columns(run: RunFrame, items: Sequence[str]) -> dict[str, list]:
    """`cause` and `repair_gain` per item, as the verdict counts them; null where the item did not fail or was not searched."""
    found = causes(run)
    if found is None:
        return {}
    rows = found.items.set_index("item").reindex(list(items))
    return {"cause": rows["cause"].tolist(), "repair_gain": rows["gain"].tolist()}


def meta_fields(readings: Any, items: Sequence[str]) -> list[dict[str, Any]]:
    """Fields of the items' meta, most frequent first: name, kind ("text", "true or false" or "numbers") and a value per item.

    A list or a table is its JSON text. A field that is not of one kind in all items is text.
    """
    by_item = _stored_meta(readings)
    held = [by_item.get(item, {}) for item in items]
    counts = Counter(name for meta in held for name in meta if name not in OWN)
    columns = []
    for name, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_FIELDS]:
        values = [meta.get(name) for meta in held]
        kinds = {_kind(value) for value in values if value is not None}
        one = kinds.pop() if len(kinds) == 1 else "text"
        plain = [_text(value) if one == "text" and value is not None else value for value in values]
        columns.append({"name": escape_control_characters(name), "kind": one, "values": plain})
    return columns


def _stored_meta(readings: Any) -> Mapping[str, Mapping[str, Any]]:
    """Each item's meta: the JSON object of its base row, or the columns of a run that stored no such object."""
    if "meta" in readings and readings["meta"].notna().any():
        rows = readings[readings["meta"].notna()].drop_duplicates("item")
        return {item: _object(text) for item, text in zip(rows["item"], rows["meta"], strict=True)}
    rows = readings.drop_duplicates("item")
    names = [name for name in META if name in rows and rows[name].notna().any()]
    found: dict[str, dict[str, Any]] = {item: {} for item in rows["item"]}
    for name in names:
        for item, value in zip(rows["item"], rows[name], strict=True):
            if isinstance(value, str):
                found[item][name] = value
    return found


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # of a foreign run: no field
        return {}
    return {name: own for name, own in value.items() if own is not None} if isinstance(value, dict) else {}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "numbers" if isinstance(value, int | float) else "text"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
