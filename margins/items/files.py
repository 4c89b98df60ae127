"""Item files: reading, writing and checking them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from override_gap.margins.items.formats import records_of
from override_gap.margins.items.item import SPLITS, TIERS, Item, ItemError


def read_items(path: str | Path) -> list[Item]:
    """Read an item file: JSON Lines of items, or any form that `override_gap.margins.items.formats` reads and
    `override_gap.margins.items.datasets` recognises.

    Raises ItemError with the path and line for the first thing that cannot be read.
    """
    found, faults = scan_items(path)
    if faults:
        line, message = faults[0]
        raise ItemError(f"{path}:{line}: {message}")
    return [item for _, item in found]


def scan_items(path: str | Path) -> tuple[list[tuple[int, Item]], list[tuple[int, str]]]:
    """Every item that can be read, and everything that cannot with what is wrong; both with their lines.

    Raises ItemError where there is no file, or no record in it.
    """
    from override_gap.margins.items.datasets import recognise  # a converter builds Items, so it imports this module

    found: list[tuple[int, Item]] = []
    faults: list[tuple[int, str]] = []
    seen: dict[str, int] = {}
    convert: Callable[[dict[str, Any]], list[Item]] | None = None
    known = False
    for line, record in records_of(path):
        if isinstance(record, ItemError):
            faults.append((line, str(record)))
            continue
        if not known:  # the first record that can be read says what form the file has
            convert, known = recognise(record), True
        made, wrong = _made(record, convert)
        for item in made:
            if item.id in seen:
                wrong.append(f"id {item.id!r} is already used in line {seen[item.id]}; ids must be unique")
            else:
                seen[item.id] = line
                found.append((line, item))
        faults += [(line, message) for message in wrong]
    if not found and not faults:
        raise ItemError(f"{path}: no items in it; need one JSON object a line, or under a CSV header one row an item")
    return found, faults


def _made(
    record: dict[str, Any], convert: Callable[[dict[str, Any]], list[Item]] | None
) -> tuple[list[Item], list[str]]:
    """The items of one record, and what keeps it from being read."""
    text = json.dumps(record, ensure_ascii=False, default=str)
    if re.search("[\ud800-\udfff]", text):
        return [], ["holds half of a surrogate pair, which is no character; save the text as UTF-8 again"]
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        return [], ["holds the character NUL, which is in no text; take it out"]
    if convert is None:
        wrong = list(_faults(record))
        return ([] if wrong else [_item(record)]), wrong
    try:
        made = convert(record)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as fault:
        return [], [f"a record lacks what its form needs: {fault!r}"]
    wrong = [
        f"{item.id}: need {name} as text, got {getattr(item, name)!r}"
        for item in made
        for name in ("document", "question", "answer", "prior_answer")
        if not isinstance(getattr(item, name), str) and (name != "prior_answer" or item.prior_answer is not None)
    ]
    wrong += [
        f"{item.id}: need {name} as texts, got {list(getattr(item, name))!r}"
        for item in made
        for name in ("aliases", "prior_aliases")
        if not all(isinstance(alias, str) for alias in getattr(item, name))
    ]
    return ([] if wrong else made), wrong


def json_lines(items: Iterable[Item]) -> str:
    """Items as the text of an item file."""
    return "".join(json.dumps(item.as_json(), ensure_ascii=False) + "\n" for item in items)


def write_items(items: Iterable[Item], path: str | Path) -> None:
    """Write items as JSON Lines."""
    Path(path).write_text(json_lines(items), encoding="utf-8")


def _faults(record: dict[str, Any]) -> Iterator[str]:
    """Every field that keeps a record from being an item."""
    known = {f.name for f in fields(Item)}
    for name in sorted(record.keys() - known):
        yield f"unknown field {name!r}; an item has {', '.join(sorted(known))}"
    for name in ("id", "point", "split", "document", "question", "answer"):
        if not isinstance(record.get(name), str):
            yield f"need {name} as text, got {record.get(name)!r}"
    for name in ("aliases", "prior_aliases"):
        value = record.get(name) or []
        if not isinstance(value, list) or not all(isinstance(alias, str) for alias in value):
            yield f"need {name} as a list of texts, got {record[name]!r}"
    for name, kinds in (("prior_answer", (str, type(None))), ("chat", (bool,)), ("meta", (dict, type(None)))):
        if name in record and not isinstance(record[name], kinds):
            yield f"{name} cannot be {record[name]!r}"
    if isinstance(record.get("split"), str) and record["split"] not in SPLITS:
        yield f"split {record['split']!r} is none of {', '.join(SPLITS)}"
    if record.get("tier") is not None and record["tier"] not in TIERS:
        yield f"tier {record['tier']!r} is none of {', '.join(TIERS)}"


def _item(record: dict[str, Any]) -> Item:
    lists = {name: tuple(record.get(name) or ()) for name in ("aliases", "prior_aliases")}
    return Item(**{**record, **lists, "meta": record.get("meta") or {}})
