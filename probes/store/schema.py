"""Tables: whether what a run folder's files hold can be meant, column by column, before anything is averaged over it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

READINGS = pa.schema(
    [
        *[pa.field(n, pa.string()) for n in ("item", "point", "split", "tier", "condition")],
        pa.field("known", pa.bool_()),
        *[
            pa.field(n, pa.float64())
            for n in (
                "prior_logprob",
                "prior_logprob_per_token",
                "prior_margin",
                "push",
                "pull",
                "adapter_margin",
                "net_margin",
            )
        ],
        *[
            pa.field(n, pa.bool_())
            for n in ("success_margin", "success_top1", "success_answer", "success_answer_substring")
        ],
        *[pa.field(n, pa.string()) for n in ("answer_text", "base_top_token")],
        *[pa.field(n, pa.float64()) for n in ("base_top_prob", "gain_mean", "adapter_norm")],
        pa.field("n_question_tokens", pa.int64()),
        *[pa.field(n, pa.string()) for n in ("status", "error")],
        pa.field("frequency", pa.float64()),
        *[pa.field(n, pa.string()) for n in ("wording", "top_token")],
        *[pa.field(n, pa.float64()) for n in ("top_prob", "doc_logprob")],
        *[pa.field(n, pa.string()) for n in ("question", "document", "answer", "prior_answer")],
        *[pa.field(n, pa.float64()) for n in ("critical_gain", "critical_gain_predicted")],
        *[pa.field(n, pa.list_(pa.string())) for n in ("aliases", "prior_aliases")],
    ]
)


LAYERS = pa.schema(
    [
        *[pa.field(n, pa.string()) for n in ("item", "point", "split", "condition")],
        pa.field("layer", pa.int64()),
        *[pa.field(n, pa.float64()) for n in ("norm", "gain", "attribution", "lens", "direct", "alone", "removed")],
    ]
)


DRAWN = pa.schema(
    [
        *[pa.field(n, pa.string()) for n in ("item", "point", "split", "tier", "condition")],
        pa.field("known", pa.bool_()),
        pa.field("temperature", pa.float64()),
        pa.field("draw", pa.int64()),
        pa.field("answer_text", pa.string()),
        *[pa.field(n, pa.bool_()) for n in ("success_answer", "success_answer_substring")],
    ]
)

Column = Any
"""An Arrow column; the stubs of Arrow's kernels know none of them."""

MOST = 3.4028234663852886e38
"""The largest float32: what is measured in float32 is no larger, and its square still is a float64."""

REQUIRED = [
    "item",
    "point",
    "split",
    "condition",
    "known",
    "prior_logprob",
    "prior_margin",
    "push",
    "pull",
    "adapter_margin",
    "net_margin",
    "success_margin",
    "success_top1",
    "status",
    "error",
]


@dataclass(frozen=True)
class Form:
    """What one kind of table has to be.

    Each file has the columns `required`; those of `schema` that are there have its kinds; `filled` hold no nulls,
    `whole` only whole numbers; numbers are finite and within float32 except in `unbounded`.
    """

    schema: pa.Schema
    required: tuple[str, ...]
    filled: tuple[str, ...]
    whole: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()


READING = Form(
    READINGS,
    required=tuple(REQUIRED),
    filled=("item", "point", "split", "condition", "status"),
    # No gain of the grid rescues the item, or the adapter pushes the wrong way: infinity, and a quotient of two float32
    # is no float32. A gain and a norm are written as they come: a sum of squares can overflow. Frequencies are the user's.
    unbounded=("critical_gain", "critical_gain_predicted", "gain_mean", "adapter_norm", "frequency"),
)
LAYER = Form(
    LAYERS,
    required=("item", "condition", "layer"),
    filled=("item", "condition", "layer"),
    whole=("layer",),
    unbounded=("norm", "gain"),
)
DRAW = Form(
    DRAWN,
    required=("item", "point", "split", "condition", "temperature", "success_answer"),
    filled=("item", "point", "split", "condition", "temperature"),
    unbounded=("temperature",),
)
FORMS = {"readings": READING, "layers": LAYER, "drawn": DRAW}


def checked(file: Path, table: pa.Table) -> pa.Table:
    """A file's table, its texts as plain text; ValueError with the file's name where no audit can have written it.

    What it has to be is known by the folder that it lies in.
    """
    form = FORMS[file.parent.name]
    try:
        absent = [name for name in form.required if name not in table.column_names]
        if absent:
            raise ValueError(f"lacks the columns {', '.join(absent)}, which every file of {file.parent.name} needs")
        for place, name in enumerate(table.column_names):
            column = table.column(name)
            known = name in form.schema.names
            # another's column may have a name of any length, with line breaks in it
            _decoded(name if known else reprlib.repr(name), lambda column=column: column.validate(full=True))
            if known:
                plain = _of_its_kind(form, name, column)
                if plain is not column:
                    table = table.set_column(place, name, plain)
        for name in table.column_names:
            if name in form.schema.names:
                _meant(form, name, table)
    except ValueError as error:
        raise ValueError(f"{file}: {error}; the run has to be made again") from error
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


def _of_its_kind(form: Form, name: str, column: Column) -> Column:
    """The column without its encoding. A column of nulls is of every kind."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    needed, came = kind(form.schema.field(name).type), kind(column.type)
    if needed.startswith("lists") and came == "lists of null":  # every list is empty
        return column.cast(form.schema.field(name).type)
    if column.null_count < len(column) and came != needed:
        raise ValueError(f"column {name} needs {needed}, got {came[:100]}")
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return _decoded(name, lambda: column.cast(pa.string()))
    return column


def _decoded(name: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except pa.ArrowInvalid as error:
        raise ValueError(f"column {name} needs text in UTF-8, got bytes that are none ({str(error)[:100]})") from error


def _meant(form: Form, name: str, table: pa.Table) -> None:
    """Raise ValueError where a column of the right kind holds what cannot be."""
    column = table.column(name)
    if name in form.filled and column.null_count:
        count = f"{column.null_count:,} of {len(column):,} rows"
        raise ValueError(f"column {name} needs a value in every row, {count} hold none")
    if kind(column.type) != "numbers" or pa.types.is_integer(column.type):
        return
    numbers = column.cast(pa.float64())
    if name in form.whole:
        _refuse(name, "whole numbers", numbers, _kernel("not_equal", numbers, _kernel("floor", numbers)), table)
    if name not in form.unbounded:
        # the extremes leave NaN aside, and are found without a second column
        least, most = _kernel("min_max", numbers).as_py().values()
        if least is not None and (least < -MOST or most > MOST):
            beyond = _kernel("greater", _kernel("abs", numbers), pa.scalar(MOST))
            _refuse(name, f"finite numbers, at most {MOST:.2g} in size", numbers, beyond, table)


def _refuse(name: str, needed: str, numbers: Column, wrong: Column, table: pa.Table) -> None:
    """Raise ValueError for the first row that is wrong, if one is."""
    at = wrong.index(True).as_py()
    if at >= 0:
        item = reprlib.repr(table.column("item")[at].as_py())
        raise ValueError(f"column {name} needs {needed}, got {numbers[at].as_py():g} for item {item}")


def _kernel(name: str, *columns: Any) -> Any:
    return pc.call_function(name, list(columns))


MOST_UNITS = 10**9
"""Units and shards that a manifest can promise: far more than files fit in a folder."""


def manifest_error(found: Mapping[str, Any]) -> str | None:
    """What no audit writes into a manifest, in words, or None. What is not there is not asked."""
    units, shard, conditions, seed = (found.get(name) for name in ("units", "shard", "conditions", "seed"))
    if units is not None and not _whole(units, 0, MOST_UNITS):
        span = f"0 to {MOST_UNITS}" if _whole(units, 0, units) else "0"
        return f"units needs a whole number from {span}, got {reprlib.repr(units)}"
    if shard is not None and not (
        isinstance(shard, dict)
        and _whole(shard.get("of"), 1, MOST_UNITS)
        and _whole(shard.get("number"), 1, shard["of"])
    ):
        return f"shard needs the whole numbers number and of, number from 1 to of, got {reprlib.repr(shard)}"
    if conditions is not None and not (
        isinstance(conditions, list) and all(isinstance(name, str) for name in conditions)
    ):
        return f"conditions needs a list of names, got {reprlib.repr(conditions)}"
    if seed is not None and not _whole(seed, 0, seed):
        return f"seed needs a whole number from 0, got {reprlib.repr(seed)}"
    return None


def _whole(value: Any, least: int, most: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
