"""Checksums of tables and JSON files, stored in the files themselves, so that damage is seen when they are read."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from override_gap.probes.store.parquet_table import LARGEST_TABLE, TableSizeError, read_table
from override_gap.probes.store.run_table import RunTable
from override_gap.probes.store.unreadable import read_error

NOTE = b"override_gap"
"""Key of a table's schema metadata under which a JSON object with the checksum is stored."""


class DamagedError(ValueError):
    """A file whose content is not what was written; the message names it and says what is wrong."""


def table_hash(table: pa.Table) -> str:
    """SHA-256 over a table's columns, types, nulls and values; the same in memory and after writing and reading."""
    digest = hashlib.sha256()
    for field in table.schema:
        column = table.column(field.name).combine_chunks()
        nulls = pc.is_null(column)  # type: ignore[attr-defined]
        # Parquet renames the values of a list, so that the type's name is not the one that was written
        kind = "list" if pa.types.is_nested(field.type) else str(field.type)
        digest.update(f"\0{field.name}\0{kind}\0{len(column)}\0".encode())
        digest.update(nulls.to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_string(field.type):
            texts = ["" if text is None else text for text in column.to_pylist()]
            digest.update(json.dumps(list(map(len, texts))).encode())
            digest.update("".join(texts).encode())
        elif pa.types.is_nested(field.type):
            digest.update(json.dumps(column.to_pylist()).encode())
        else:
            zero = False if pa.types.is_boolean(field.type) else 0
            digest.update(column.fill_null(zero).to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()


def with_table_checksum(table: pa.Table, **facts: Any) -> tuple[pa.Table, str]:
    """The table with its checksum and other facts as a note in its schema's metadata; and the checksum alone."""
    checksum = table_hash(table)
    note = json.dumps({"sha256": checksum, **facts}, sort_keys=True).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), NOTE: note}), checksum


def read_checked(
    file: Path, stated: RunTable | None = None, most_rows: int | None = None
) -> tuple[pa.Table, Mapping[str, Any] | None]:
    """A table and its note, None for a table without one.

    Raises DamagedError where the checksum differs, where a column is lacking that every file of `stated` has, and where there
    are more than `most_rows` rows; ReadError where the system or the memory keeps the file from being read.
    """
    try:
        table = read_table(file, stated, most_rows)
        stored = (table.schema.metadata or {}).get(NOTE)
        note = None if stored is None else json.loads(stored)
    except FileNotFoundError as fault:
        raise DamagedError(f"{file}: missing") from fault
    except TableSizeError as fault:
        raise DamagedError(f"{file}: {fault}") from fault
    except Exception as fault:  # a damaged file makes Arrow raise errors of many kinds
        raise _unsound(file, fault, "not readable as Parquet ({})") from fault
    if note is not None and (not isinstance(note, dict) or note.get("sha256") != _checked_hash(table, file)):
        raise DamagedError(f"{file}: its content is not what was written (the checksum differs)")
    if note is not None and not _is_note(note, len(table)):
        raise DamagedError(f"{file}: its note is not what was written ({reprlib.repr(note)})")
    return (table if note is None else table.replace_schema_metadata(None)), note


def _is_note(note: Mapping[str, Any], rows: int) -> bool:
    """Whether a note has the form that is written: checksums of further tables by name, failed rows, unit and run."""
    tables, faults = note.get("tables", {}), note.get("faults", 0)
    return (
        isinstance(tables, dict)
        and all(isinstance(text, str) for text in tables.values())
        and type(faults) is int
        and 0 <= faults <= rows
        and all(isinstance(note.get(name, ""), str) for name in ("unit", "identity"))
    )


def read_note(file: Path) -> Mapping[str, Any]:
    """The note of a table, from the file's last bytes alone. Raises DamagedError where there is none, ReadError."""
    try:
        note = json.loads((pq.read_schema(file).metadata or {})[NOTE])
    except Exception as fault:  # a damaged file makes Arrow raise errors of many kinds
        raise _unsound(file, fault, "its note cannot be read ({})") from fault
    return note if isinstance(note, dict) else {}


def _unsound(file: Path, fault: Exception, says: str) -> Exception:
    """What to raise for a file that could not be read: ReadError where it may be sound, else DamagedError."""
    unread = read_error(file, fault, LARGEST_TABLE)
    if unread is not None:
        return unread
    reason = "it is a folder" if file.is_dir() else " ".join(str(fault).split())[:120]
    return DamagedError(f"{file}: {says.format(reason)}")


def _checked_hash(table: pa.Table, file: Path) -> str:
    """`table_hash` of a table read from a file. Raises DamagedError where its values cannot be read."""
    try:
        return table_hash(table)
    except Exception as fault:  # texts that are not UTF-8, for example
        raise _unsound(file, fault, "its content is not what was written ({})") from fault


def unit_seal(note: Mapping[str, Any]) -> str:
    """SHA-256 of the note of a unit's readings, which states their checksum and those of the unit's other tables."""
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the SHA-256 of all its other keys as `checksum`."""
    return {**content, "checksum": _json_hash(content)}


def checksum_matches(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object's checksum agrees with its content; True for an object without one."""
    return "checksum" not in content or content["checksum"] == _json_hash(content)


def _json_hash(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
