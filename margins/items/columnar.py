"""Rows of Parquet and Arrow files, of data sets saved to disk, and of data sets on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from override_gap.margins.items.item import ItemError
from override_gap.margins.memory_limit import memory_limited
from override_gap.margins.parquet_footer import value_bytes

HUB = "hf:"
MOST_RECORDS = 2_000_000
"""Records of one file; ConflictBank, the largest set that is known here, has 553,117 questions."""
MOST_TEXT = 2**30
"""Bytes of text in a Parquet or Arrow file once its repetitions are written out, since items hold their texts in memory."""
DECODING = 3 * MOST_TEXT
"""Bytes of memory that decoding some rows may take: a file may hold more in one row than its footer says."""


def require_few(path: object, records: int) -> None:
    """Raise ItemError where a file has more records than are read."""
    if records > MOST_RECORDS:
        raise ItemError(
            f"{path}: it has {records:,} records; at most {MOST_RECORDS:,} are read: split it, or take a sample"
        )


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, whose footer is asked for their number first; texts that repeat are held once."""
    import pyarrow
    import pyarrow.parquet

    try:
        footer = pyarrow.parquet.read_metadata(path)
        require_few(path, footer.num_rows)
        if value_bytes(footer) > MOST_TEXT:
            raise _too_large(path)
        columns = [footer.schema.column(n) for n in range(footer.num_columns)]
        texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
        # few rows at a time, and as dictionaries: a small file may hold one long text many times
        batches = pyarrow.parquet.ParquetFile(path, read_dictionary=texts).iter_batches(batch_size=256)
        yield from _records(path, _limited(path, batches))
    except (pyarrow.ArrowException, OSError) as fault:
        raise ItemError(f"{path}: not a Parquet file that can be read: {fault}") from fault


def arrow_rows(path: Path) -> Iterator[dict[str, Any]]:
    """An Arrow file, or the stream that the library datasets writes."""
    import pyarrow
    import pyarrow.ipc

    try:
        with pyarrow.memory_map(str(path)) as opened:
            if opened.read(6) == b"ARROW1":
                reader = pyarrow.ipc.open_file(opened)
                batches = (reader.get_batch(n) for n in range(reader.num_record_batches))
            else:
                opened.seek(0)
                batches = iter(pyarrow.ipc.open_stream(opened))
            yield from _records(path, (b.slice(n, 256) for b in batches for n in range(0, len(b), 256)))
    except (pyarrow.ArrowException, OSError) as fault:
        raise ItemError(f"{path}: not an Arrow file that can be read: {fault}") from fault


def _records(path: Path, batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The rows of batches. Raises ItemError before a batch is written out with which they have too much text."""
    held = 0
    for batch in batches:
        held += sum(map(_text_size, batch.columns))
        if held > MOST_TEXT:
            raise _too_large(path)
        yield from map(_without_empty, batch.to_pylist())


def _limited(path: Path, batches: Iterator[Any]) -> Iterator[Any]:
    """The batches, each decoded within DECODING bytes. Raises ItemError."""
    while True:
        with memory_limited(DECODING) as binds:
            try:
                batch = next(batches, None)
            except MemoryError as fault:
                if binds:
                    raise _too_large(path) from fault
                raise
        if batch is None:
            return
        yield batch


def _too_large(path: Path) -> ItemError:
    return ItemError(f"{path}: its rows hold over {MOST_TEXT:,} bytes of text; split it, or take a sample")


def _text_size(array: Any) -> int:
    """Bytes of an array's texts, each as often as it stands in a row."""
    import pyarrow
    import pyarrow.compute as pc

    kind = array.type
    if pyarrow.types.is_dictionary(kind):
        if not (pyarrow.types.is_string(kind.value_type) or pyarrow.types.is_binary(kind.value_type)):
            return array.nbytes
        lengths = pc.binary_length(array.dictionary)  # pyright: ignore[reportAttributeAccessIssue]
        return pc.sum(lengths.take(array.indices)).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    if pyarrow.types.is_struct(kind):
        return sum(map(_text_size, array.flatten()))
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        return _text_size(array.flatten())
    return array.nbytes


def arrow_folder_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a data set that the library datasets saved to disk."""
    files = sorted(folder.glob("*.arrow"))
    if not files:
        splits = sorted(file.parent for file in folder.glob("*/*.arrow"))
        hint = f"; name one of its splits, as {splits[0]}" if splits else "; name one item file in it"
        raise ItemError(f"{folder} is a folder{hint}")
    for file in files:
        yield from arrow_rows(file)


def hub_rows(name: str) -> Iterator[dict[str, Any]]:
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
    if hasattr(rows, "__len__"):
        require_few(f"{HUB}{name}", len(rows))
    for row in rows:
        yield _without_empty(dict(row))


def _without_empty(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its empty cells: a table has every column in every row, an item only the fields that it needs."""
    return {name: value for name, value in row.items() if value is not None}
