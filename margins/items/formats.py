"""Records from every kind of file that data sets come in: JSON Lines, a JSON array, CSV, Parquet, or a name on the hub."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from override_gap.margins.items.item import ItemError
from override_gap.margins.strict_json import JSONError, decode, parse, skip_space

# (line, record) for what can be read, (line, error) for what cannot; for Parquet and the hub the row instead of the line
Record = tuple[int, dict[str, Any] | ItemError]
HUB = "hf:"
LISTS = ("aliases", "prior_aliases")
LONGEST = 16 * 2**20
"""Bytes of one line of JSON Lines: a document of three million words."""
LARGEST = 2**30
"""Bytes of a file that has to be held in memory as a whole."""


def field_noun(path: str | Path) -> str:
    """What readers of this kind of file call a field of a record."""
    table = str(path).startswith(HUB) or Path(path).suffix.lower() in (".csv", ".tsv", ".parquet")
    return "column" if table else "field"


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
    is_table = path.suffix.lower() in (".csv", ".tsv")
    if is_table or _first_byte(path) == b"[":
        text = _whole_text(path)
        if is_table:
            yield from _table(text, "\t" if path.suffix.lower() == ".tsv" else ",")
            return
        values = _array(text)
    else:
        values = _lines(path)
    for line, value in values:
        if isinstance(value, dict | ItemError):
            yield line, value
        else:
            yield line, ItemError(f"need a JSON object with an item's fields, got {type(value).__name__}")


def _first_byte(path: Path) -> bytes:
    """A file's first byte behind the byte-order mark and white space, of which it may have less than 64 KiB."""
    with path.open("rb") as opened:
        return opened.read(2**16).removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")[:1]


def _whole_text(path: Path) -> str:
    """The text of a file that cannot be read line by line. Raises ItemError where it is too large for that, or no text."""
    size = path.stat().st_size
    if size > LARGEST:
        raise ItemError(
            f"{path}: {size:,} bytes; a JSON array or a table is held in memory and may have {LARGEST:,} at most; "
            "save it as JSON Lines, which is read line by line"
        )
    return _text(path, path.read_bytes().removeprefix(codecs.BOM_UTF8))


def _text(path: Path, raw: bytes, start: int = 0) -> str:
    """Bytes of a file, from byte `start` on, as text. Raises ItemError."""
    if b"\0" in raw:
        raise ItemError(
            f"{path}: not UTF-8 text (NUL at byte {start + raw.index(0)}, as in UTF-16 or a binary file); save it as UTF-8"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise ItemError(
            f"{path}: not UTF-8 text ({fault.reason} at byte {start + fault.start}); save it as UTF-8"
        ) from fault


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """JSON Lines, one line in memory at a time; after a line that is no JSON the next is still read."""
    line, start = 0, 0
    with path.open("rb") as opened:
        while raw := opened.readline(LONGEST + 1):
            line, length = line + 1, len(raw)
            if length > LONGEST:
                raise ItemError(
                    f"{path}:{line}: a line of more than {LONGEST:,} bytes, which is no item; need one JSON object per line"
                )
            text = _text(path, raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw, start).strip()
            start += length
            if text:
                try:
                    yield line, parse(text)
                except JSONError as fault:
                    yield line, _json_error(fault, text)


def _array(text: str) -> Iterator[tuple[int, Any]]:
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
            yield line + text.count("\n", counted, max(counted, fault.at)), _json_error(fault, text)
            return
        yield line, value
        more = text[at] == ","
        at = skip_space(text, at + 1) if more else at
    rest = skip_space(text, at + 1)
    if rest < len(text):
        yield text.count("\n", 0, rest) + 1, ItemError("not JSON: text after the end of the array")


def _json_error(fault: JSONError, text: str) -> ItemError:
    column = f" at column {fault.at - text.rfind(chr(10), 0, fault.at)}" if fault.at >= 0 else ""
    return ItemError(f"not JSON: {fault}{column}")


def _table(text: str, delimiter: str) -> Iterator[Record]:
    """Rows under a header, each with the line where it begins, since a cell may hold line breaks."""
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
                if len(set(header)) < len(header):
                    raise csv.Error(f"two columns are called {next(n for n in header if header.count(n) > 1)!r}")
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
    """A row's cells as an item's fields: an empty cell is no value; lists are JSON or separated by |; meta is JSON."""
    record: dict[str, Any] = {name: cell for name, cell in row.items() if cell.strip()}
    for name in record.keys() & {*LISTS, "meta"}:
        cell = record[name].strip()
        if name in LISTS and not cell.startswith("["):
            record[name] = [part.strip() for part in cell.split("|") if part.strip()]
            continue
        try:
            record[name] = parse(cell)
        except JSONError as fault:
            raise ItemError(f"{name} is no JSON ({fault}): {cell[:80]!r}") from fault
    if "chat" in record:
        record["chat"] = {"true": True, "1": True, "false": False, "0": False}.get(
            record["chat"].strip().lower(), record["chat"]
        )
    return record


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        # few rows at a time: a small file may hold one long text many times
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=256):
            yield from map(_without_empty, batch.to_pylist())
    except (pyarrow.ArrowException, OSError) as fault:
        raise ItemError(f"{path}: not a Parquet file that can be read: {fault}") from fault


def _hub(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a data set on the hub, `OWNER/NAME` or `OWNER/NAME:SPLIT`."""
    name, _, split = name.partition(":")
    if not re.fullmatch(r"(?:\w[\w.-]*/)?\w[\w.-]*", name):  # or the library would open a local folder
        raise ItemError(f"{HUB}{name} names no data set; write {HUB}OWNER/NAME or {HUB}OWNER/NAME:SPLIT")
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
    except ImportError as fault:
        raise ItemError(
            f"{HUB}{name}: needs the package datasets (pip install datasets); "
            "or download the data set's JSON or Parquet file and name that"
        ) from fault
    try:
        rows: Any = load_dataset(name, split=split or None)
    except Exception as fault:  # no network, no such name, no such split: the library has many error types for them
        reason = (str(fault).strip() or type(fault).__name__).split("\n")[0]
        raise ItemError(f"{HUB}{name}: cannot be loaded: {reason}") from fault
    if not split and hasattr(rows, "keys"):
        if len(rows) != 1:
            raise ItemError(
                f"{HUB}{name}: has the splits {', '.join(rows)}; name one, as in {HUB}{name}:{next(iter(rows))}"
            )
        rows = next(iter(rows.values()))
    for row in rows:
        yield _without_empty(dict(row))


def _without_empty(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its empty cells: a table has every column in every row, an item only the fields that it needs."""
    return {name: value for name, value in row.items() if value is not None}
