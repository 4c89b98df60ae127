"""Rows of Parquet and Arrow files, of data sets saved to disk, and of data sets on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from override_gap.margins.items.item import ItemError

HUB = "hf:"


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    try:
        # few rows at a time: a small file may hold one long text many times
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=256):
            yield from map(_without_empty, batch.to_pylist())
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
            for batch in batches:
                for first in range(0, len(batch), 256):
                    yield from map(_without_empty, batch.slice(first, 256).to_pylist())
    except (pyarrow.ArrowException, OSError) as fault:
        raise ItemError(f"{path}: not an Arrow file that can be read: {fault}") from fault


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
    for row in rows:
        yield _without_empty(dict(row))


def _without_empty(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its empty cells: a table has every column in every row, an item only the fields that it needs."""
    return {name: value for name, value in row.items() if value is not None}
