"""Checksum: what a table holds as one number, kept in the table's own file, so that damage is seen when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

NAME = b"override_gap"


class DamagedError(ValueError):
    """A file that is not what was written; the message names it and says what is wrong."""


def table_hash(table: pa.Table) -> str:
    """SHA-256 over columns, types, nulls and values; the same for a table in memory and for one read back."""
    digest = hashlib.sha256()
    for field in table.schema:
        column = table.column(field.name).combine_chunks()
        nulls = pc.is_null(column)  # type: ignore[attr-defined]
        # Parquet renames what a list holds, so that the type's words are not those that were written
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


def with_table_checksum(table: pa.Table, **said: Any) -> tuple[pa.Table, str]:
    """The table with its checksum, and what else is said of it, in its schema's metadata; and the checksum."""
    checksum = table_hash(table)
    note = json.dumps({"sha256": checksum, **said}, sort_keys=True).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), NAME: note}), checksum


def read_checked(file: Path) -> tuple[pa.Table, Mapping[str, Any] | None]:
    """A table and what its seal says; None for one without. Raises DamagedError where the two disagree."""
    try:
        table = pq.read_table(file)
        note = (table.schema.metadata or {}).get(NAME)
        said = None if note is None else json.loads(note)
    except FileNotFoundError as fault:
        raise DamagedError(f"{file}: missing") from fault
    except Exception as fault:  # a damaged file makes Arrow raise errors of many kinds
        raise DamagedError(f"{file}: not readable as Parquet ({' '.join(str(fault).split())[:120]})") from fault
    if said is not None and (not isinstance(said, dict) or said.get("sha256") != _hash(table, file)):
        raise DamagedError(f"{file}: its content is not what was written (the checksum differs)")
    return (table if said is None else table.replace_schema_metadata(None)), said


def _hash(table: pa.Table, file: Path) -> str:
    try:
        return table_hash(table)
    except Exception as fault:  # texts that are no UTF-8, say
        raise DamagedError(f"{file}: its content is not what was written ({fault})") from fault


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the SHA-256 of all else that it holds, as `checksum`."""
    return {**content, "checksum": _json_hash(content)}


def checksum_matches(content: Mapping[str, Any]) -> bool:
    """Whether a signed object holds what was signed; one without a checksum is not asked."""
    return "checksum" not in content or content["checksum"] == _json_hash(content)


def _json_hash(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
