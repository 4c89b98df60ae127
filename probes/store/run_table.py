"""What a column and a table of a run folder are: names, types, what every file must hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

TEXT, TRUTH, FLOAT, INTEGER, TEXTS = pa.string(), pa.bool_(), pa.float64(), pa.int64(), pa.list_(pa.string())
FLOATS = pa.list_(pa.float64())


@dataclass(frozen=True)
class Column:
    """One column.

    `presence`: optional (a file may lack it), required (every file has it) or filled (required, and no value is null).
    `shown`: where the report's item explorer shows it, once per item, condition or layer.
    `range`, of numbers: bounded (finite and within float32), whole (bounded, and whole numbers) or unbounded.
    """

    name: str
    type: pa.DataType
    presence: Literal["optional", "required", "filled"]
    shown: Literal["", "item", "condition", "layer"]
    meaning: str
    range: Literal["bounded", "whole", "unbounded"] = "bounded"


@dataclass(frozen=True)
class RunTable:
    """One table of a run folder: the folder that its files are in, what a row is, and its columns in stored order."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Names of the columns, in stored order."""
        return [column.name for column in self.columns]

    @property
    def required(self) -> list[str]:
        """Names of the columns that every file has."""
        return [column.name for column in self.columns if column.presence != "optional"]

    @property
    def optional(self) -> list[str]:
        """Names of the columns that a file may lack."""
        return [column.name for column in self.columns if column.presence == "optional"]

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema that is written to disk."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])

    def from_rows(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """Rows as an Arrow table, a missing value as null. Raises ValueError for a column that is not stated here."""
        unstated = set().union(*rows).difference(self.names)
        if unstated:
            raise ValueError(
                f"{self.name} has no column {', '.join(sorted(unstated))}; state it in probes/store/schema.py or what it imports"
            )
        return pa.Table.from_pylist([dict(row) for row in rows], schema=self.arrow)
