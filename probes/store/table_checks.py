"""Checks that a run's tables hold what an audit writes, column by column, before anything is averaged over them."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from override_gap.probes.store.schema import TABLES, Column

Values = Any
"""The values of an Arrow column; the stubs of Arrow's kernels know none of them."""

MOST = 3.4028234663852886e38
"""The largest float32: what is measured in float32 is no larger, and its square still is a float64.

Columns are unbounded where that does not hold: a critical gain is infinite where no gain rescues the item, or its prediction
where the adapter pushes the wrong way, and a quotient of two float32 is no float32; gains and norms are written as they come,
and a sum of squares can overflow; frequencies are the user's.
"""


def checked(file: Path, table: pa.Table) -> pa.Table:
    """A file's table with texts as plain text; the folder that the file is in says which columns it needs.

    Raises ValueError with the file's name where no audit can have written the table.
    """
    stated = TABLES[file.parent.name]
    columns = {column.name: column for column in stated.columns}
    try:
        absent = [name for name in stated.required if name not in table.column_names]
        if absent:
            raise ValueError(f"lacks the columns {', '.join(absent)}, which every file of {stated.name} needs")
        for position, name in enumerate(table.column_names):
            values, column = table.column(name), columns.get(name)
            # a column of the user's own may have a name of any length, with line breaks in it
            _as_text(reprlib.repr(name) if column is None else name, lambda values=values: values.validate(full=True))
            if column is not None:
                plain = _of_stated_kind(column, values)
                if plain is not values:
                    table = table.set_column(position, name, plain)
        for name in table.column_names:
            if name in columns:
                _check_values(columns[name], table)
    except ValueError as fault:
        raise ValueError(f"{file}: {fault}; the run has to be made again") from fault
    return table


def kind(type_: pa.DataType) -> str:
    """What a column holds, in words, whatever its width or encoding."""
    types = pa.types
    if types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_):
        return "numbers"
    if types.is_boolean(type_):
        return "true or false"
    if any(is_(type_) for is_ in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)):
        return "text"
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        return f"lists of {kind(type_.value_type)}"
    return str(type_)


def _of_stated_kind(column: Column, values: Values) -> Values:
    """The values without their encoding; nulls alone are of every kind. Raises ValueError for another kind."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    needed, came = kind(column.type), kind(values.type)
    if needed.startswith("lists") and came == "lists of null":  # every list is empty
        return values.cast(column.type)
    if values.null_count < len(values) and came != needed:
        raise ValueError(f"column {column.name} needs {needed}, got {came[:100]}")
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return _as_text(column.name, lambda: values.cast(pa.string()))
    return values


def _as_text(name: str, read: Callable[[], Any]) -> Any:
    """What `read` returns. Raises ValueError where Arrow finds bytes that are not UTF-8."""
    try:
        return read()
    except pa.ArrowInvalid as fault:
        raise ValueError(f"column {name} needs text in UTF-8, got bytes that are none ({str(fault)[:100]})") from fault


def _check_values(column: Column, table: pa.Table) -> None:
    """Raise ValueError where a column of the stated kind holds a value outside its stated range."""
    values = table.column(column.name)
    if column.presence == "filled" and values.null_count:
        count = f"{values.null_count:,} of {len(values):,} rows"
        raise ValueError(f"column {column.name} needs a value in every row, {count} hold none")
    if kind(values.type) != "numbers" or pa.types.is_integer(values.type):
        return
    numbers = values.cast(pa.float64())
    if column.range == "whole":
        fractional = _kernel("not_equal", numbers, _kernel("floor", numbers))
        _refuse_any(column.name, "whole numbers", numbers, fractional, table)
    if column.range != "unbounded":
        # the extremes leave NaN aside, and are found without a second column
        least, most = _kernel("min_max", numbers).as_py().values()
        if least is not None and (least < -MOST or most > MOST):
            beyond = _kernel("greater", _kernel("abs", numbers), pa.scalar(MOST))
            _refuse_any(column.name, f"finite numbers, at most {MOST:.2g} in size", numbers, beyond, table)


def _refuse_any(name: str, needed: str, numbers: Values, wrong: Values, table: pa.Table) -> None:
    """Raise ValueError for the first row that is wrong, if any is."""
    row = wrong.index(True).as_py()
    if row >= 0:
        of = "item" if "item" in table.column_names else "document"
        which = reprlib.repr(table.column(of)[row].as_py())
        raise ValueError(f"column {name} needs {needed}, got {numbers[row].as_py():g} for {of} {which}")


def _kernel(name: str, *values: Any) -> Any:
    return pc.call_function(name, list(values))
