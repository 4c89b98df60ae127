"""Many small tables kept as few large ones: each column of each unit's table costs more than the numbers in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

TOGETHER = 64
"""Small tables of one schema that are made one."""
LARGEST = 256 * 2**20
"""Bytes of tables that are made one; a column of texts in one piece holds at most 2 GiB."""


@dataclass
class Fold:
    """Tables in the order in which they were added; it is filled one by one, and so not frozen."""

    _made: list[pa.Table] = field(default_factory=list)
    _small: list[pa.Table] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        """Take one more table."""
        if self._small and table.schema != self._small[0].schema:
            self._make()
        self._small.append(table)
        if len(self._small) == TOGETHER:
            self._make()

    def tables(self) -> list[pa.Table]:
        """All rows that were added, in few tables."""
        self._make()
        return self._made

    def _make(self) -> None:
        together = sum(table.nbytes for table in self._small) <= LARGEST and len(self._small) > 1
        self._made += [pa.concat_tables(self._small).combine_chunks()] if together else self._small
        self._small = []
