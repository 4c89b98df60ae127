"""Records from every kind of file that data sets come in: JSON, CSV, Parquet, Arrow, or a name on the hub."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from override_gap.margins.items import json_records
from override_gap.margins.items.columnar import HUB as HUB
from override_gap.margins.items.columnar import arrow_folder_rows, arrow_rows, hub_rows, parquet_rows
from override_gap.margins.items.encodings import readings
from override_gap.margins.items.item import ItemError
from override_gap.margins.items.tables import header_without_names, needs_header, table

# (line, record) for what can be read, (line, error) for what cannot; for Parquet and the hub the row instead of the line
Record = tuple[int, dict[str, Any] | ItemError]
TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
"""Delimiters by the end of a file's name."""
LARGEST = 2**30
"""Bytes of a file that has to be held in memory as a whole."""
NOT_ITEMS = {
    b"\x1f\x8b": "is compressed (gzip); unpack it first",
    b"BZh": "is compressed (bzip2); unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd); unpack it first",
    b"PK\x03\x04": "is an Excel workbook or a zip archive; save the sheet as 'CSV UTF-8', or unpack it first",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook; save the sheet as 'CSV UTF-8'",
    b"SQLi": "is an SQLite database; export its table as CSV",
}


def field_noun(path: str | Path) -> str:
    """What readers of this kind of file call a field of a record."""
    is_table = str(path).startswith(HUB) or Path(path).suffix.lower() in (*TABLES, ".parquet", ".arrow", ".feather")
    return "column" if is_table else "field"


def records_of(path: str | Path) -> Iterator[Record]:
    """Every record with its line, or row. Raises ItemError, naming the path, where no record can be read at all."""
    if str(path).startswith(HUB):
        yield from enumerate(hub_rows(str(path).removeprefix(HUB)), start=1)
        return
    path = Path(path)
    if path.is_dir():
        yield from enumerate(arrow_folder_rows(path), start=1)
        return
    if not path.is_file():
        raise ItemError(f"{path}: no such item file")
    with path.open("rb") as opened:
        magic = opened.read(8)
    for start, what in NOT_ITEMS.items():
        if magic.startswith(start):
            raise ItemError(f"{path} {what}")
    if magic.startswith(b"PAR1"):
        yield from enumerate(parquet_rows(path), start=1)
    elif magic.startswith(b"ARROW1") or path.suffix.lower() == ".arrow":
        yield from enumerate(arrow_rows(path), start=1)
    elif path.suffix.lower() in TABLES or _is_table(path):
        yield from _table(path)
    else:
        yield from _json(path)


def _table(path: Path) -> Iterator[Record]:
    first = True
    for line, record in table(_whole_text(path), TABLES.get(path.suffix.lower(), "\t")):
        if first and isinstance(record, dict) and header_without_names(record) and not _is_form(record):
            raise needs_header(path)
        first = False
        yield line, record


def _is_form(record: dict[str, Any]) -> bool:
    from override_gap.margins.items.datasets import recognise

    return recognise(record) is not None


def _is_table(path: Path) -> bool:
    """Whether a file of another name is a table: text that begins with no JSON and whose first line has a delimiter."""
    if path.suffix.lower() not in (".txt", ".dat") or _start(path)[:1] in ("[", "{"):
        return False
    return any(delimiter in _start(path).partition("\n")[0] for delimiter in ("\t", ";", ","))


def _start(path: Path) -> str:
    """The first characters of a file behind its byte-order mark and white space."""
    with path.open("rb") as opened:
        raw = opened.read(2**16)
    encoding = _utf_16(raw)
    return raw.removeprefix(codecs.BOM_UTF8).decode(encoding or "utf-8", "replace").lstrip("\ufeff \t\r\n")


def _json(path: Path) -> Iterator[Record]:
    with path.open("rb") as opened:
        head = opened.read(2)
    start = _start(path)
    if _utf_16(head) or start[:1] == "[":
        text = _whole_text(path)
        values = json_records.array(text) if start[:1] == "[" else _objects(path, text)
    else:
        values = _lines_or_objects(path, start)
    for line, value in values:
        if isinstance(value, dict | ItemError):
            yield line, value
        else:
            yield line, ItemError(f"need a JSON object with an item's fields, got {type(value).__name__}")


def _lines_or_objects(path: Path, start: str) -> Iterator[json_records.Line]:
    """JSON Lines; or, where the first line is no whole object, or the only one, a file of objects over several lines."""
    lines = json_records.lines(path, partial(_text, path))
    if not start.startswith("{"):
        yield from lines
        return
    try:
        first = next(lines, None)
        second = None if first is None else next(lines, None)
    except ItemError:
        if path.stat().st_size > LARGEST:
            raise
        # one object in a long line: a file of many records, or no item
        held = [value for _, value in json_records.objects(_whole_text(path))]
        if len(held) != 1 or not isinstance(held[0], dict) or json_records.held_records(held[0]) is None:
            raise
        yield from ((1, record) for record in json_records.held_records(held[0]) or ())
        return
    if first is None:
        return
    if second is None or isinstance(first[1], ItemError):
        broken = isinstance(first[1], ItemError)
        found = list(_objects(path, _whole_text(path))) if path.stat().st_size <= LARGEST else []
        # a first line that is broken in JSON Lines is no object over several lines either
        if found and not (broken and isinstance(found[0][1], ItemError) and _some_record(second, lines)):
            yield from found
            return
        lines = json_records.lines(path, partial(_text, path))
        yield from lines
        return
    yield first
    yield second
    yield from lines


def _some_record(second: json_records.Line | None, lines: Iterator[json_records.Line]) -> bool:
    """Whether any later line is an object by itself: then the file is JSON Lines."""
    if second is not None and isinstance(second[1], dict):
        return True
    return any(isinstance(value, dict) for _, value in lines)


def _objects(path: Path, text: str) -> Iterator[json_records.Line]:
    """The objects of a text, or the records that its one object holds."""
    found = list(json_records.objects(text))
    if len(found) == 1 and isinstance(found[0][1], dict):
        records = json_records.held_records(found[0][1])
        if records is None and not is_record(found[0][1]):
            lists = json_records.other_lists(found[0][1])
            if len(lists) > 1:
                names = ", ".join(lists)
                raise ItemError(
                    f"{path}: one object with several lists of records ({names}); save one of them as a file"
                )
            records = next(iter(lists.values()), None)
        if records is not None:
            return ((n, record) for n, record in enumerate(records, 1))
    return iter(found)


def is_record(value: dict[str, Any]) -> bool:
    """Whether an object is a record itself: of a known data set, or with a field of an item."""
    return _is_form(value) or not header_without_names(value)


def _whole_text(path: Path) -> str:
    """The text of a file that cannot be read line by line. Raises ItemError where it is too large for that, or no text."""
    size = path.stat().st_size
    if size > LARGEST:
        raise ItemError(
            f"{path}: {size:,} bytes; a JSON array or a table is held in memory and may have {LARGEST:,} at most; "
            "save it as JSON Lines, which is read line by line"
        )
    raw = path.read_bytes()
    encoding = _utf_16(raw)
    if encoding:  # Excel's "Unicode text"
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as fault:
            raise ItemError(f"{path}: not UTF-16 text as its mark says ({fault.reason}); save it as UTF-8") from fault
        return _text(path, text.lstrip("\ufeff").encode("utf-8", "surrogatepass"))
    return _text(path, raw.removeprefix(codecs.BOM_UTF8))


def _utf_16(raw: bytes) -> str | None:
    """UTF-16 where the file's own mark says so."""
    return "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None


def _text(path: Path, raw: bytes, start: int = 0) -> str:
    """Bytes of a file, from byte `start` on, as text. Raises ItemError."""
    if b"\0" in raw:
        raise ItemError(
            f"{path}: not UTF-8 text (NUL at byte {start + raw.index(0)}, as in UTF-16 or a binary file); save it as UTF-8"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        begin = raw.rfind(b"\n", 0, fault.start) + 1
        end = raw.find(b"\n", fault.start)
        around = raw[max(begin, fault.start - 20) : min(len(raw) if end < 0 else end, fault.start + 20)]
        line = "" if start else f", line {raw.count(10, 0, fault.start) + 1}"
        (name, text), *others = readings(raw, around)
        seen = f"{name} that place is {text!r}" + "".join(f", as {name} {text!r}" for name, text in others)
        raise ItemError(
            f"{path}: not UTF-8 text ({fault.reason} at byte {start + fault.start}{line}); save it as UTF-8 "
            f"(in Excel 'CSV UTF-8'). Read as {seen}"
        ) from fault
