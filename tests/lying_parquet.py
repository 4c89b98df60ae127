"""A Parquet file of a few kB whose one row holds a long list of equal numbers, which its footer may deny."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa


def with_long_list(table: pa.Table, length: int) -> pa.Table:
    """The table with a column `mine` of lists, of which the first has `length` zeros and the others none."""
    ends = np.full(len(table) + 1, length, np.int32)
    ends[0] = 0
    return table.append_column("mine", pa.ListArray.from_arrays(pa.array(ends), pa.array(np.zeros(length, np.int64))))


def deny(file: Path, length: int) -> None:
    """Rewrite the footer so that it counts one value where it counted `length`."""
    content = file.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    stated, denied = _varint(2 * length), _varint(2, len(_varint(2 * length)))  # Thrift doubles what is not negative
    footer = content[start:]
    assert stated in footer
    file.write_bytes(content[:start] + footer.replace(stated, denied))


def _varint(number: int, width: int = 0) -> bytes:
    """Seven bits a byte, the lowest first; zeros in front fill `width` bytes."""
    digits = [number >> shift & 127 for shift in range(0, max(number.bit_length(), 7 * width), 7)]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])
