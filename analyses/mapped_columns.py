"""Columns of a large run on disk: mapped from a file, so that they take memory only while they are read."""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from override_gap.margins.memory_limit import give_back_freed

Column = Any
"""A column of pandas."""
ALIGNED = 64
"""Bytes; where a column's parts begin, as Arrow asks."""
LEAST_FREE = 4
"""Columns stay in memory where less than so many times their room is free on the disk: summary and page are written there."""


def room_of(tables: Iterable[pa.Table]) -> int:
    """Bytes within which the columns of these tables lie."""
    # numbers and the offsets of texts take 8 bytes a row, places without a value a bit
    return sum(table.nbytes + 9 * (table.num_rows + 2 * ALIGNED) * table.num_columns for table in tables)


@dataclass(eq=False)
class MappedColumns:
    """The columns that were moved to one file, up to its byte `end`; they are moved one by one, so it is not frozen.

    The file lies in the run's folder and is unlinked at once: the system removes it with the last column that reads it, however
    the process ends. Moved columns are read-only. A copy of a run, pickled or deep, has its columns in memory, and None here.
    """

    file: IO[bytes]
    mapped: mmap.mmap
    end: int = 0

    @classmethod
    @contextmanager
    def inside(cls, folder: Path, room: int) -> Iterator[MappedColumns | None]:
        """A block in which columns are moved, up to `room` bytes (`room_of`); they stay as long as something reads them.

        None, so that columns stay in memory, where the folder takes no such file, its disk is nearly full, or the system
        (Windows) cannot give the memory of what was read back.
        """
        with ExitStack() as opened:
            on_disk = None
            with suppress(OSError):
                if room and hasattr(mmap, "MADV_DONTNEED") and shutil.disk_usage(folder).free >= LEAST_FREE * room:
                    file = opened.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
                    file.truncate(room)  # bytes that are never written take no room
                    on_disk = cls(file, mmap.mmap(file.fileno(), room, access=mmap.ACCESS_READ))
            yield on_disk

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def move(self, column: Column) -> Column:
        """The same column, on disk where it holds numbers, truths or texts; as it is elsewhere, and where the disk is full."""
        try:
            if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
                numbers = np.ascontiguousarray(column.to_numpy())
                written = np.frombuffer(self._written(numbers.data), dtype=numbers.dtype)
            elif column.dtype == "str":
                written = self._texts(column)
            else:
                return column
        except OSError:
            return column  # it then takes memory
        return pd.Series(written, index=column.index, dtype=column.dtype, copy=False)

    def release(self) -> None:
        """Give the memory of all columns back, and what analyses have freed; a column comes back from disk as it is read."""
        with suppress(OSError):  # a process whose memory is locked keeps it
            self.mapped.madvise(mmap.MADV_DONTNEED)
        give_back_freed()

    def _texts(self, column: Column) -> pa.Array:
        """A column's texts: their bytes, their offsets, and the places without a text."""
        texts: Any = pa.array(column, type=pa.large_string())
        texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        parts = [None if part is None else pa.py_buffer(self._written(part)) for part in texts.buffers()]
        return pa.Array.from_buffers(texts.type, len(texts), parts, texts.null_count, texts.offset)

    def _written(self, content: Any) -> memoryview:
        """Bytes behind those written before, read from the file. Raises OSError."""
        left = memoryview(content).cast("B")
        start = self.end + -self.end % ALIGNED
        end = start + len(left)
        if end > len(self.mapped):
            raise OSError("more columns than the file has room for")
        self.file.seek(start)
        while len(left):
            left = left[self.file.write(left) :]
        self.end = end
        return memoryview(self.mapped)[start:end]
