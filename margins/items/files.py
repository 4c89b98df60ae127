"""Item files: reading, writing and checking them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from override_gap.margins.items.datasets import Converter, recognise
from override_gap.margins.items.formats import field_noun, records_of
from override_gap.margins.items.item import Item, ItemError, field_errors, item_from_record


def read_items(path: str | Path) -> list[Item]:
    """The items of a file: JSON Lines of items, or any form that `margins.items.formats` reads and `.datasets` recognises.

    Raises ItemError with the path and line of the first thing that cannot be read.
    """
    items, errors = scan_items(path)
    if errors:
        line, message = errors[0]
        raise ItemError(f"{path}:{line}: {message}")
    return [item for _, item in items]


def scan_items(path: str | Path) -> tuple[list[tuple[int, Item]], list[tuple[int, str]]]:
    """Every item that can be read, and a message for everything that cannot; both with their lines.

    Raises ItemError where there is no file, or no record in it.
    """
    items: list[tuple[int, Item]] = []
    errors: list[tuple[int, str]] = []
    line_of_id: dict[str, int] = {}
    convert: Converter | None = None
    recognised = False
    for line, record in records_of(path):
        if isinstance(record, ItemError):
            errors.append((line, str(record)))
            continue
        if not recognised:  # the first record that can be read says what form the file has
            convert, recognised = recognise(record), True
        from_record, messages = _items_of(record, convert, field_noun(path))
        for item in from_record:
            if item.id in line_of_id:
                messages.append(f"id {item.id!r} is already used in line {line_of_id[item.id]}; ids must be unique")
            else:
                line_of_id[item.id] = line
                items.append((line, item))
        errors += [(line, message) for message in messages]
    if not items and not errors:
        raise ItemError(
            f"{path}: no items in it; need one JSON object per line, or one row per item under a CSV header"
        )
    return items, errors


def _items_of(record: dict[str, Any], convert: Converter | None, noun: str) -> tuple[list[Item], list[str]]:
    """The items of one record, and what keeps it from being read."""
    text = json.dumps(record, ensure_ascii=False, default=str)
    if re.search("[\ud800-\udfff]", text):
        return [], ["holds half of a surrogate pair, which is no character; save the text as UTF-8 again"]
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        return [], ["holds the character NUL, which belongs in no text; remove it"]
    if convert is None:
        errors = list(field_errors(record, noun))
        return ([] if errors else [item_from_record(record)]), errors
    try:
        items = convert(record)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as fault:
        return [], [f"a record lacks what its form needs: {fault!r}"]
    errors = [
        f"{item.id}: need {name} as text, got {getattr(item, name)!r}"
        for item in items
        for name in ("document", "question", "answer", "prior_answer")
        if not isinstance(getattr(item, name), str) and (name != "prior_answer" or item.prior_answer is not None)
    ]
    errors += [
        f"{item.id}: need {name} as texts, got {list(getattr(item, name))!r}"
        for item in items
        for name in ("aliases", "prior_aliases")
        if not all(isinstance(alias, str) for alias in getattr(item, name))
    ]
    return ([] if errors else items), errors


def json_lines(items: Iterable[Item]) -> str:
    """Items as the text of an item file."""
    return "".join(json.dumps(item.as_json(), ensure_ascii=False) + "\n" for item in items)


def write_items(items: Iterable[Item], path: str | Path) -> None:
    """Write items as JSON Lines."""
    Path(path).write_text(json_lines(items), encoding="utf-8")
