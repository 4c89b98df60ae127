"""What the values of a Parquet file take in memory, as its footer counts them."""

from __future__ import annotations

from typing import Any

_WIDTHS = {"BOOLEAN": 1 / 8, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
"""Bytes of a value once it is decoded; of a text those of its place in the list of texts, which has a size of its own."""


def value_bytes(footer: Any) -> int:
    """Bytes that all values take without the bytes of texts: a list of equal numbers is a few bytes in the file.

    A footer may say less than its pages hold, so a reader needs a limit of its own (`memory_limited`), too.
    """
    total = 0.0
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            total += column.num_values * _WIDTHS.get(column.physical_type, 1)
    return int(total)
