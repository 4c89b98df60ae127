"""JSON with many records: JSON Lines, an array, or one object that holds the records or their columns."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from override_gap.margins.items.item import ItemError
from override_gap.margins.strict_json import JSONError, decode, parse, skip_space

LONGEST = 16 * 2**20
"""Bytes of one line of JSON Lines: a document of three million words."""
CONTAINERS = ("data", "items", "examples", "records", "rows", "questions", "instances")
"""Names under which one object holds the records of a file."""

Line = tuple[int, Any]


def lines(path: Path, text_of: Callable[[bytes, int], str]) -> Iterator[Line]:
    """JSON Lines, one line in memory at a time; after a line that is no JSON the next is still read.

    `text_of` decodes bytes that begin at a byte of the file.
    """
    line, start = 0, 0
    with path.open("rb") as opened:
        while raw := opened.readline(LONGEST + 1):
            line, length = line + 1, len(raw)
            if length > LONGEST:
                raise ItemError(
                    f"{path}:{line}: a line of more than {LONGEST:,} bytes, which is no item; need one JSON object per line"
                )
            text = text_of(raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw, start).strip()
            start += length
            if text:
                try:
                    yield line, parse(text)
                except JSONError as fault:
                    yield line, json_error(fault, text)


def array(text: str) -> Iterator[Line]:
    """The members of one JSON array, each with the line where it begins; nothing after a broken one is read."""
    line, counted = 1, 0  # `line` is that of character `counted`
    at = skip_space(text, text.index("[") + 1)
    more = text[at : at + 1] != "]"
    while more:
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decode(text, at)
            at = skip_space(text, end)
            if text[at : at + 1] not in (",", "]"):
                raise JSONError("Expecting ',' delimiter", at)
        except JSONError as fault:
            yield line + text.count("\n", counted, max(counted, fault.at)), json_error(fault, text)
            return
        yield line, value
        more = text[at] == ","
        at = skip_space(text, at + 1) if more else at
    rest = skip_space(text, at + 1)
    if rest < len(text):
        yield text.count("\n", 0, rest) + 1, ItemError("not JSON: text after the end of the array")


def objects(text: str) -> Iterator[Line]:
    """Objects one after another, each over several lines; nothing after a broken one is read."""
    at, line, counted = skip_space(text, 0), 1, 0
    while at < len(text):
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decode(text, at)
        except JSONError as fault:
            yield line + text.count("\n", counted, max(counted, fault.at)), json_error(fault, text)
            return
        yield line, value
        at = skip_space(text, end)


def held_records(value: dict[str, Any]) -> list[Any] | None:
    """The records that one object of a file holds, or None where it is a record itself.

    They are a list of objects under one of the usual names, or within an object of such a name; or the columns of a table,
    as lists, as objects by row (pandas), or as `columns` and `data`.
    """
    names, rows = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows):
        return [dict(zip(map(str, names), row, strict=False)) for row in rows]
    lists = other_lists(value)
    usual = [name for name in CONTAINERS if name in lists]
    if usual:
        return lists[usual[0]]
    within = [value[name] for name in CONTAINERS if isinstance(value.get(name), dict)]
    if within and _are_records(next(iter(within[0].values()), None)):
        return held_records(within[0])
    columns = list(value.values())
    as_lists = len(columns) > 1 and not lists and all(isinstance(column, list) for column in columns)
    if as_lists and len({len(column) for column in columns}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if len(columns) > 1 and all(isinstance(column, dict) for column in columns) and columns[0]:
        keys = list(columns[0])
        scalar = not any(isinstance(cell, dict) for column in columns for cell in column.values())
        if scalar and all(list(column) == keys for column in columns):
            return [{name: value[name][key] for name in value} for key in keys]
    return None


def other_lists(value: dict[str, Any]) -> dict[str, list[Any]]:
    """The lists of objects that one object holds, by name: the records of a file, where the object is no record itself."""
    return {name: inner for name, inner in value.items() if _are_records(inner)}


def json_error(fault: JSONError, text: str) -> ItemError:
    """A JSON fault with its column, and what to do about the common ones."""
    column = f" at column {fault.at - text.rfind(chr(10), 0, fault.at)}" if fault.at >= 0 else ""
    advice = ""
    if text[: fault.at].rstrip().endswith(",") and text[fault.at : fault.at + 1] in ("}", "]"):
        advice = "; remove the comma before the closing bracket"
    elif "NaN" in str(fault):
        advice = "; write null for a value that is missing"
    elif text[fault.at : fault.at + 1] == "'":
        advice = "; JSON quotes with \", not with '"
    return ItemError(f"not JSON: {fault}{column}{advice}")


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(inner, dict) for inner in value)
