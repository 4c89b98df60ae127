"""Records from a file of any of the forms data sets come in: JSON Lines, a JSON array, CSV, Parquet, or a name on the hub."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class ItemError(ValueError):
    """An item file or an item that cannot be used; the message says where, what was needed and what came."""


# (line, record) for what can be read, (line, fault) for what cannot; Parquet and the hub have rows, not lines
Record = tuple[int, dict[str, Any] | ItemError]
HUB = "hf:"
LISTS = ("aliases", "prior_aliases")


def records_of(path: str | Path) -> Iterator[Record]:
    """Every record with its line, or row. Raises ItemError, naming the path, where no record can be read at all."""
    if str(path).startswith(HUB):
        yield from enumerate(_hub(str(path).removeprefix(HUB)), start=1)
        return
    path = Path(path)
    if path.is_dir():
        raise ItemError(f"{path} is a folder; name one item file in it")
    if not path.is_file():
        raise ItemError(f"{path}: no such item file")
    with path.open("rb") as opened:
        magic = opened.read(4)
    if magic == b"PAR1":
        yield from enumerate(_parquet(path), start=1)
        return
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ItemError(f"{path}: not UTF-8 text ({fault.reason} at byte {fault.start}); save it as UTF-8") from fault
    if path.suffix.lower() in (".csv", ".tsv"):
        yield from _table(text, "\t" if path.suffix.lower() == ".tsv" else ",")
        return
    for line, value in _array(text) if text.lstrip().startswith("[") else _lines(text):
        if isinstance(value, dict | ItemError):
            yield line, value
        else:
            yield line, ItemError(f"need a JSON object with an item's fields, got {type(value).__name__}")


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    """JSON Lines; a line that is no JSON does not keep the next from being read."""
    for line, part in enumerate(text.split("\n"), start=1):
        if part.strip():
            try:
                yield line, json.loads(part)
            except (json.JSONDecodeError, RecursionError) as fault:
                yield line, _fault(fault)


def _array(text: str) -> Iterator[tuple[int, Any]]:
    """The members of one JSON array, each with the line where it begins; what follows a broken one is not read."""
    decoder, line, seen = json.JSONDecoder(), 1, 0
    at = _past_space(text, text.index("[") + 1)
    more = text[at : at + 1] != "]"
    while more:
        line, seen = line + text.count("\n", seen, at), at
        try:
            value, end = decoder.raw_decode(text, at)
            at = _past_space(text, end)
            if text[at : at + 1] not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        except (json.JSONDecodeError, RecursionError) as fault:
            yield getattr(fault, "lineno", line), _fault(fault)
            return
        yield line, value
        more = text[at] == ","
        at = _past_space(text, at + 1) if more else at
    rest = _past_space(text, at + 1)
    if rest < len(text):
        yield text.count("\n", 0, rest) + 1, ItemError("not JSON: text after the end of the array")


def _past_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\n", "\r", "\t"):
        at += 1
    return at


def _fault(fault: Exception) -> ItemError:
    if isinstance(fault, json.JSONDecodeError):
        return ItemError(f"not JSON: {fault.msg} at column {fault.colno}")
    return ItemError("JSON nested too deeply to be an item")


def _table(text: str, delimiter: str) -> Iterator[Record]:
    """Rows under a header; a cell may hold line breaks, so each row has the line where it begins."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    start = 1
    try:
        for row in rows:
            line, start = start, rows.line_num + 1
            if not row:
                continue
            if not header:
                header = [name.strip() for name in row]
            elif len(row) > len(header):
                yield (
                    line,
                    ItemError(f"{len(row)} cells under {len(header)} columns; quote cells that hold {delimiter!r}"),
                )
            else:
                try:
                    yield line, _cells(dict(zip(header, row, strict=False)))
                except ItemError as fault:
                    yield line, fault
    except csv.Error as fault:
        yield start, ItemError(f"not CSV: {fault}")


def _cells(row: dict[str, str]) -> dict[str, Any]:
    """A row's cells as an item's fields: an empty cell is no value; lists are JSON or parted by |; meta is JSON."""
    record: dict[str, Any] = {name: cell for name, cell in row.items() if cell.strip()}
    for name in record.keys() & {*LISTS, "meta"}:
        cell = record[name].strip()
        if name in LISTS and not cell.startswith("["):
            record[name] = [part.strip() for part in cell.split("|") if part.strip()]
            continue
        try:
            record[name] = json.loads(cell)
        except (json.JSONDecodeError, RecursionError) as fault:
            raise ItemError(f"{name} is no JSON: {cell!r}") from fault
    if "chat" in record:
        record["chat"] = {"true": True, "1": True, "false": False, "0": False}.get(
            record["chat"].strip().lower(), record["chat"]
        )
    return record


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            yield from map(_present, batch.to_pylist())
    except (pyarrow.ArrowException, OSError) as fault:
        raise ItemError(f"{path}: not a Parquet file that can be read: {fault}") from fault


def _hub(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a data set on the hub, `OWNER/NAME` or `OWNER/NAME:SPLIT`."""
    name, _, split = name.partition(":")
    if not name.strip():
        raise ItemError(f"{HUB} names no data set; write {HUB}OWNER/NAME or {HUB}OWNER/NAME:SPLIT")
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
    except ImportError as fault:
        raise ItemError(
            f"{HUB}{name}: needs the package datasets (pip install datasets); "
            "or download the data set's JSON or Parquet file and name that"
        ) from fault
    try:
        found: Any = load_dataset(name, split=split or None)
    except Exception as fault:  # no network, no such name, no such split: the library has many types for them
        reason = (str(fault).strip() or type(fault).__name__).split("\n")[0]
        raise ItemError(f"{HUB}{name}: cannot be loaded: {reason}") from fault
    if not split and hasattr(found, "keys"):
        if len(found) != 1:
            raise ItemError(
                f"{HUB}{name}: has the splits {', '.join(found)}; name one, as in {HUB}{name}:{next(iter(found))}"
            )
        found = next(iter(found.values()))
    for row in found:
        yield _present(dict(row))


def _present(row: dict[str, Any]) -> dict[str, Any]:
    """A typed row without its empty cells: a table has every column in every row, an item only what it needs."""
    return {name: value for name, value in row.items() if value is not None}
