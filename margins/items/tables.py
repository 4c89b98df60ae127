"""Tables as text: CSV and its relatives, with the delimiter, quoting and empty cells that spreadsheets save."""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Iterator
from typing import Any

from override_gap.margins.items.item import ItemError
from override_gap.margins.items.plain import NAMES, OTHER_NAMES, TEXTS
from override_gap.margins.strict_json import JSONError, parse

LISTS = ("aliases", "prior_aliases")
DELIMITERS = (",", ";", "\t", "|")
SEPARATORS = {"": " ", "none": "", "space": " ", '""': "", '" "': " "}
"""How a cell states what stands between question and answer."""
NO_NAME = "(column {} has no name)"
_KNOWN = {*NAMES, *(other for others in OTHER_NAMES.values() for other in others)}


def table(text: str, delimiter: str) -> Iterator[tuple[int, dict[str, Any] | ItemError]]:
    """Rows under a header, each with the line where it begins, since a cell may hold line breaks.

    `delimiter` is the one that the file's name promises; where the header makes sense with another alone, that one is
    taken (spreadsheets of many countries save CSV with semicolons). Rows and trailing cells that are empty are left out.
    """
    first, _, rest = text.partition("\n")
    start = 1
    if first.strip().lower().startswith("sep=") and len(first.strip()) <= 5:  # a hint that Excel reads and writes
        delimiter, text, start = first.strip()[4:] or "\t", rest, 2
    else:
        delimiter = _delimiter(text, delimiter)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    skipped = start - 1
    try:
        for row in rows:
            line, start = start, skipped + rows.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = _header(row)
                continue
            while len(row) > len(header) and not row[-1].strip():
                row.pop()
            if len(row) > len(header):
                yield (
                    line,
                    ItemError(f"{len(row)} cells under {len(header)} columns; quote cells that hold {delimiter!r}"),
                )
                continue
            try:
                yield line, _cells(dict(zip(header, row, strict=False)))
            except ItemError as fault:
                yield line, fault
    except csv.Error as fault:
        yield start, ItemError(f"not CSV: {fault}")


def header_without_names(record: dict[str, Any]) -> bool:
    """Whether a table's columns have no name that an item knows: then its first row is no header."""
    return not any(_plain(name) in _KNOWN for name in record)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _header(row: list[str]) -> list[str]:
    names = [name.strip().lstrip("\ufeff") for name in row]
    while names and not names[-1]:  # what commas at the line's end leave behind
        names.pop()
    names = [name or NO_NAME.format(n) for n, name in enumerate(names, 1)]
    if len(set(names)) < len(names):
        raise csv.Error(f"two columns are called {next(n for n in names if names.count(n) > 1)!r}")
    return names


def _delimiter(text: str, promised: str) -> str:
    """The delimiter under which the header has most names of an item; the promised one where that is as good."""

    def known(delimiter: str) -> int:
        try:
            header = next(csv.reader(io.StringIO(text[: 2**16], newline=""), delimiter=delimiter), [])
        except csv.Error:
            return 0
        return len({_plain(name) for name in header} & _KNOWN)

    return max((promised, *DELIMITERS), key=known)


def _cells(row: dict[str, str]) -> dict[str, Any]:
    """A row's cells as a record: an empty cell is no value; lists are JSON, as Python writes them, or separated by |.

    White space around a cell is no part of it, but for the document's: before or after an answer it would be tokens.
    """
    cells = {name: cell if _plain(name) == "document" else cell.strip() for name, cell in row.items() if cell.strip()}
    record: dict[str, Any] = dict(cells)
    for name, cell in row.items():
        if _plain(name) == "separator" and cell:  # an empty cell states none, so that nothing has a name, too
            record[name] = SEPARATORS.get(cell.strip().lower(), cell)
    for name, cell in cells.items():
        field = _plain(name)
        if field in LISTS:
            parts = [part.strip() for part in cell.split("|") if part.strip()]
            record[name] = _list(name, cell) if cell.startswith("[") else parts
        elif field == "meta":
            record[name] = _json(name, cell)
        elif field == "chat":
            truth = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            record[name] = truth.get(cell.lower(), cell)
        elif field in ("answer", "prior_answer") and cell.startswith(("['", '["')):
            record[name] = _list(name, cell)
    return record


def _list(name: str, cell: str) -> Any:
    """A list in a cell, as JSON or as Python writes it."""
    try:
        return parse(cell)
    except JSONError:
        if not cell.startswith("['") and "'" not in cell:
            return _json(name, cell)
    try:
        return ast.literal_eval(cell[:100_000])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return _json(name, cell)


def _json(name: str, cell: str) -> Any:
    try:
        return parse(cell)
    except JSONError as fault:
        raise ItemError(f"{name} is no JSON ({fault}): {cell[:80]!r}") from fault


def needs_header(path: object) -> ItemError:
    """What is said of a table without a header."""
    return ItemError(f"{path}:1: the first row names no column of an item; need a header with {', '.join(TEXTS)}")
