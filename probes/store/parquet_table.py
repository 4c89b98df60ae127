"""Reading one Parquet file whose sizes and columns are checked before its rows are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from override_gap.margins.memory_limit import memory_limited
from override_gap.margins.parquet_footer import value_bytes
from override_gap.probes.store.run_table import RunTable

LARGEST_TABLE = 4 * 2**30
"""Bytes that one file's rows may take in memory. A unit of 128 items, 500 conditions and 80 layers takes 0.7 GiB."""
DECODING = 2 * LARGEST_TABLE
"""Bytes that decoding one file may take: its rows as read, and the bytes in which they are stored."""
MOST_COLUMNS = 1000


class TableSizeError(ValueError):
    """A file whose columns, rows or texts are not what a run's table can have; the message says which, without the file."""


def read_table(file: Path, stated: RunTable | None = None, most_rows: int | None = None) -> pa.Table:
    """The rows of a Parquet file. Raises TableSizeError before rows are read, or before texts are spelt out; Arrow's errors.

    `stated`: the table whose required columns the file has to have; `most_rows`: rows that it can have. Texts are read as
    places in the list of distinct ones, so that a small file which repeats one long text takes little memory until its size
    is known; they come back as plain texts.
    """
    with pq.ParquetFile(file) as opened:
        facts, schema = opened.metadata, opened.schema_arrow
        lacking = [] if stated is None else [name for name in stated.required if name not in schema.names]
        if stated is not None and lacking:
            raise TableSizeError(f"lacks the columns {', '.join(lacking)}, which every file of {stated.name} needs")
        if len(schema.names) > MOST_COLUMNS:
            raise TableSizeError(f"{len(schema.names):,} columns; a table of a run has at most {MOST_COLUMNS:,}")
        if most_rows is not None and facts.num_rows > most_rows:
            raise TableSizeError(f"it states {facts.num_rows:,} rows; as its manifest is, it has at most {most_rows:,}")
        groups = (facts.row_group(number) for number in range(facts.num_row_groups))
        needed = max(
            8 * facts.num_rows * len(schema.names), sum(group.total_byte_size for group in groups), value_bytes(facts)
        )
        _require_room(needed)
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    with pq.ParquetFile(file, metadata=facts, read_dictionary=texts, page_checksum_verification=False) as opened:
        table = _read(opened)
    for position, name in enumerate(table.column_names):
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            needed += _text_bytes(column)
            _require_room(needed)
            field = pa.field(name, pa.string(), metadata=table.schema.field(name).metadata)
            table = table.set_column(position, field, column.cast(pa.string()))
    return table


def _read(opened: pq.ParquetFile) -> pa.Table:
    """All rows. Raises TableSizeError where a row holds more than the footer says, so that they take over DECODING bytes."""
    with memory_limited(DECODING) as binds:
        try:
            return opened.read(use_threads=False)
        except MemoryError as fault:
            if binds:
                raise TableSizeError(f"its rows take over {DECODING:,} bytes to read") from fault
            raise


def _text_bytes(column: pa.ChunkedArray) -> int:
    """At most how many bytes a column of texts takes once each row has its own."""
    longest = [pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0 for chunk in column.chunks]  # type: ignore[attr-defined]
    bound = sum(len(chunk) * most for chunk, most in zip(column.chunks, longest, strict=True))
    if bound <= LARGEST_TABLE // MOST_COLUMNS:
        return bound
    lengths = (pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks)  # type: ignore[attr-defined]
    return sum(pc.sum(each).as_py() or 0 for each in lengths)  # type: ignore[attr-defined]


def _require_room(needed: int) -> None:
    if needed > LARGEST_TABLE:
        raise TableSizeError(f"its rows take {needed:,} bytes or more; a table of a run has at most {LARGEST_TABLE:,}")
