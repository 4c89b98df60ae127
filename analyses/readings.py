"""The readings of one run as tables, and the selections of rows that every analysis makes."""

from __future__ import annotations

import inspect
import itertools
import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Shaped

from override_gap.analyses.mapped_columns import MappedColumns, room_of
from override_gap.analyses.stats.clusters import labelled
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.condition_names import JOINED_MEAN, NULLS, robustness_family
from override_gap.margins.memory_limit import give_back_freed
from override_gap.probes.store.schema import LAYERS, READINGS, SEARCH, TABLES
from override_gap.probes.store.sealed import read_sealed

P = ParamSpec("P")
R = TypeVar("R")
Table = Any
"""A pandas table or column; pandas annotates its results as unions that a type checker cannot follow."""

BASE, DELIVERED = "base", "as-delivered"
SPLITS = ("novel", "combination", "conflict", "retention")
TIERS = ("light", "medium", "deep")
MEASURES = ("margin", "top1", "answer", "answer_substring")
POPULATIONS = ("all", "known")
ORDER = ["split", "condition", "item"]
"""Columns by which readings are sorted."""
LONG = 10_000
"""Rows of a table above which freed memory is given back after each column is converted."""
LARGE = 250_000
"""Rows of all tables of a run together above which columns of numbers and texts are kept on disk."""
OWN_FIELDS = ("readings", "layers", "drawn", "search")
"""Tables that are fields of `RunFrame` under their own names."""


@dataclass(frozen=True, eq=False)
class RunFrame:
    """One run: its manifest, its readings (one row per item and condition) and its layers (one row per layer of those).

    `drawn` holds sampled answers, one row per item, condition, temperature and draw; `search` the gains at which failing
    conflicts were read, one row per item, condition and gain; both are empty where a run has none. `extra` holds further
    tables of docs/columns.md by name, without columns in which nothing was measured; `table` gives them whole. `cautions` say
    what keeps the numbers from being checked; `content` is the hash of the folder that they were read from
    (`SealedRun.content`); `on_disk` holds columns of a run of more than `LARGE` rows, which are read-only.
    docs/columns.md states every column; optional ones that the run does not have are filled with None.
    """

    manifest: dict[str, Any]
    readings: Table
    layers: Table = field(default_factory=lambda: pd.DataFrame(columns=LAYERS.names))
    drawn: Table = field(default_factory=pd.DataFrame)
    search: Table = field(default_factory=lambda: pd.DataFrame(columns=SEARCH.names))
    extra: Mapping[str, Table] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    content: str | None = None
    on_disk: MappedColumns | None = None

    def __post_init__(self) -> None:
        absent = [name for name in READINGS.required if name not in self.readings.columns]
        if absent:
            raise ValueError(f"readings lack the columns {', '.join(absent)}; a run of this toolkit writes them")
        object.__setattr__(self, "readings", _with_columns(self.readings, READINGS.optional))
        object.__setattr__(self, "layers", _with_columns(self.layers, LAYERS.names))
        object.__setattr__(self, "search", _with_columns(self.search, SEARCH.names))
        if self.readings["cluster"].notna().any():
            by_item = self._cluster_by_item
            for name in ("layers", "drawn", "search"):
                table = getattr(self, name)
                if len(table):
                    object.__setattr__(self, name, table.assign(cluster=table["item"].map(by_item)))
        _refuse_duplicates(self.readings, "readings", ["item", "condition"])
        _refuse_duplicates(self.layers, "rows in layers", ["item", "condition", "layer"])
        _refuse_duplicates(self.search, "rows in search", ["item", "condition", "gain"])

    @property
    def _cluster_by_item(self) -> Table:
        return self.readings[["item", "cluster"]].drop_duplicates("item").set_index("item")["cluster"]

    @cached_property
    def measured(self) -> Table:
        """Rows that enter statistics, those of status ok, in an order that does not depend on how they were stored: `ORDER`.

        The readings themselves where all of them are, as those of a run folder without errors: a large run has no room for two.
        """
        is_ok = self.readings["status"] == "ok"
        rows = self.readings if is_ok.all() else self.readings[is_ok]
        places = rows[ORDER].reset_index(drop=True).sort_values(ORDER, kind="stable").index
        return rows if places.equals(pd.RangeIndex(len(rows))) else rows.iloc[places]

    @cached_property
    def cells(self) -> dict[tuple[str, str], Table]:
        """Measured rows of each split and condition, sorted by item: neighbours in `measured`, so that none is copied."""
        rows = self.measured
        codes = rows.groupby(["split", "condition"]).ngroup().fillna(-1).to_numpy()  # none without a split
        edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(rows)]
        spans = [(start, end) for start, end in itertools.pairwise(edges) if start < end and codes[start] >= 0]
        keys = rows[["split", "condition"]].iloc[[start for start, _ in spans]].astype(str)
        return {
            (split, name): rows.iloc[start:end]
            for (start, end), split, name in zip(spans, keys["split"], keys["condition"], strict=True)
        }

    @cached_property
    def conditions(self) -> list[str]:
        """Names of the base and the policies in the run's order; `variants` and `nulls` hold the others."""
        return [name for name in self._all_conditions if not robustness_family(name) and name not in NULLS]

    @cached_property
    def nulls(self) -> list[str]:
        """Names of the null conditions: adapters that cannot hold the item's answer."""
        return [name for name in self._all_conditions if name in NULLS]

    @cached_property
    def variants(self) -> list[str]:
        """Names of the conditions whose adapter or prompt is not made from the item's document as it stands."""
        return [name for name in self._all_conditions if robustness_family(name)]

    @cached_property
    def factor_means(self) -> list[str]:
        """Names of the variants that average several adapters' factors: a way in which methods are run, and so compared."""
        return [name for name in self.variants if name.startswith(JOINED_MEAN)]

    @cached_property
    def _all_conditions(self) -> list[str]:
        planned = [str(name) for name in self.manifest.get("conditions") or []]
        return list(
            dict.fromkeys([*planned, *self.readings["condition"].sort_index(kind="stable").unique().astype(str)])
        )

    def release(self) -> None:
        """Of a large run give back the memory of columns that were read and of what analyses have freed."""
        if self.on_disk is not None:
            self.on_disk.release()

    def table(self, name: str) -> Table:
        """A further table of docs/columns.md with all of its columns, and `cluster` where it has items; empty if not measured."""
        rows = _with_columns(self.extra.get(name, pd.DataFrame()), TABLES[name].names)
        if "item" not in TABLES[name].names or not self.readings["cluster"].notna().any():
            return rows
        return rows.assign(cluster=rows["item"].map(self._cluster_by_item))

    def select(
        self, split: str, condition: str | None = None, population: str = "all", columns: Sequence[str] | None = None
    ) -> Table:
        """Measured rows of a split, a condition and a population ("all" or "known"), sorted by item; all columns, or some.

        With None for the condition those of all, one condition after the other.
        """
        if condition is None:
            rows = self.measured[self.measured["split"] == split]
        else:
            cell = self.cells.get((split, condition))
            rows = self.measured.iloc[:0] if cell is None else cell
        # to copy every column of a population, or of rows that are all known, takes longer than most analyses of them
        known = truth(rows["known"]) == 1.0 if population == "known" else None
        rows = rows if columns is None else rows[list(columns)]
        return rows if known is None or known.all() else rows[known]


def once_per_run(analysis: Callable[P, R]) -> Callable[P, R]:
    """Decorator: an analysis that several others read is made once for each run object and settings, and kept with the run."""
    signature = inspect.signature(analysis)

    @wraps(analysis)
    def kept(*given: P.args, **named: P.kwargs) -> R:
        settings = signature.bind(*given, **named)
        settings.apply_defaults()
        run, *rest = settings.arguments.values()
        results = run.__dict__.setdefault("results", {})  # as cached_property keeps its values
        key = (analysis.__module__, analysis.__qualname__, *rest)
        if key not in results:
            results[key] = analysis(*given, **named)
        return results[key]

    return kept


@contextmanager
def plain_memory() -> Iterator[None]:
    """Inside the block Arrow takes memory from the system, not from its own pool, which keeps what small tables have freed."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def load(path: str | Path) -> RunFrame:
    """Read a run folder. Raises ValueError where `override-gap doctor` finds that its numbers cannot be used, in its words."""
    folder = Path(path)
    with plain_memory():
        run = _loaded(folder)
    give_back_freed()
    return run


def _loaded(folder: Path) -> RunFrame:
    sealed = read_sealed(folder)
    give_back_freed()  # of the units' tables, before their columns are copied
    shard = sealed.manifest.get("shard")
    if shard is not None:
        raise ValueError(
            f"{folder}: shard {shard['number']} of {shard['of']} of a run; merge all shards with `override-gap merge` first"
        )
    if not sealed.units:
        raise ValueError(
            f"{folder}: no readings/*.parquet, so nothing was measured yet; give the audit's own command again"
        )
    stored = list(itertools.chain(*sealed.tables.values()))
    is_large, room = sum(file.num_rows for file in stored) > LARGE, room_of(stored)
    del stored  # else no column's memory would be freed before the last one's
    with MappedColumns.inside(folder, room) if is_large else nullcontext() as on_disk:
        tables = {
            name: table(files, ORDER if name == READINGS.name else (), name in OWN_FIELDS, on_disk)
            for name, files in sealed.tables.items()
        }
    if tables[READINGS.name] is None:
        raise ValueError(f"{folder / 'readings'}: its files hold no rows; the run has to be made again")
    further = {name: rows for name, rows in tables.items() if name not in OWN_FIELDS and rows is not None}
    own = {name: rows for name in OWN_FIELDS if (rows := tables[name]) is not None}
    cautions, content = sealed.cautions, sealed.content
    return RunFrame(sealed.manifest, **own, extra=further, cautions=cautions, content=content, on_disk=on_disk)


def table(
    files: list[pa.Table],
    order: Sequence[str] = (),
    unmeasured: bool = True,
    on_disk: MappedColumns | None = None,
) -> Table | None:
    """Arrow tables of one kind as one table of pandas, sorted by `order`; None where there are none.

    The index is each row's place in the files. Without `unmeasured`, columns that hold nothing are left out, which
    `RunFrame.table` adds where it is asked. The list is emptied, and each column's memory is freed once pandas has it, or
    `on_disk`, to which columns are moved.
    """
    # A table in which a column is all null does not decide that column's type, nor do pandas' own metadata.
    joined = pa.concat_tables(files, promote_options="permissive") if files else None
    files.clear()
    if joined is None:
        return None
    places, index = None, pd.RangeIndex(len(joined))
    if order:
        keys = [(name, "ascending") for name in order]
        places = pc.sort_indices(joined, sort_keys=keys).to_numpy().astype(int)  # type: ignore[attr-defined]
        index = pd.Index(places)
    columns = {}
    for name in joined.column_names:
        column = joined.column(name)
        joined = joined.drop_columns([name])
        if column.null_count == len(column) and not unmeasured:
            continue
        # taken by pandas: Arrow's own take joins a column's texts, and has no room for more than 2 GiB of them
        values = _as_pandas(column)
        # one index for all: each column's own takes as much memory as its numbers
        columns[name] = (values if places is None else values.take(places)).set_axis(index)
        is_long = len(column) > LONG
        del column, values
        if on_disk is not None:
            columns[name] = on_disk.move(columns[name])
            on_disk.release()
        elif is_long:
            give_back_freed()
    return pd.DataFrame(columns, copy=False)


def _as_pandas(column: pa.ChunkedArray) -> Table:
    """One column; lists of texts as arrays, of which equal ones are the same array: most items have the same, or none."""
    if not pa.types.is_list(column.type) or not pa.types.is_string(column.type.value_type):
        return column.to_pandas()
    known: dict[tuple, Any] = {}
    lists = np.empty(len(column), dtype=object)
    start = 0
    for chunk in column.chunks:
        for n, value in enumerate(chunk.to_pylist(), start):
            if value is not None and tuple(value) not in known:
                known[tuple(value)] = np.array(value, dtype=object)
            lists[n] = None if value is None else known[tuple(value)]
        start += len(chunk)
    return pd.Series(lists)


def _with_columns(table: Table, names: Sequence[str]) -> Table:
    """The table with the columns of these names that it lacks, filled with None."""
    absent = [name for name in names if name not in table.columns]
    return table.assign(**dict.fromkeys(absent, None)) if absent else table


def _refuse_duplicates(table: Table, rows: str, names: list[str]) -> None:
    """Raise ValueError where two rows agree in all of these columns."""
    repeated = table.duplicated(names)
    if repeated.any():
        item, condition, *layer = (table[repeated].iloc[0][name] for name in names)
        at = f" at {names[2]} {layer[0]:g}" if layer else ""
        raise ValueError(
            f"item {reprlib.repr(item)} has two {rows} under {reprlib.repr(condition)}{at}; one is expected"
        )


def first_rows(readings: Table, columns: Sequence[str]) -> Table:
    """Each item's first row as stored, which is the base's and so has numbers where an adapter's failed; in some columns.

    In few: to copy all of a large run's takes as much memory as the run.
    """
    return readings[["item", *columns]].sort_index(kind="stable").drop_duplicates("item")


def points_of(rows: Table) -> Shaped[np.ndarray, " n"]:
    """The knowledge point of each row, with the higher cluster that it lies in where the run knows one."""
    points = rows["point"].to_numpy(dtype=object)
    return labelled(points, rows["cluster"].to_numpy(dtype=object)) if "cluster" in rows else points


def success_rate(rows: Table, measure: str, name: str = "success") -> Estimate:
    """Share of rows that succeed by a measure, with an interval clustered by knowledge point."""
    return proportion(name, truth(rows[f"success_{measure}"]), points_of(rows))


def truth(column: Table) -> Float[np.ndarray, " n"]:
    """A nullable boolean column as floats: 1, 0, NaN where nothing was measured."""
    return values(column)


def values(column: Table) -> Float[np.ndarray, " n"]:
    """A nullable numeric column as float64 with NaN for null."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return column.to_numpy(dtype=float, copy=True)  # what the general way comes to, in a tenth of the time
    numbers: Any = pd.to_numeric(column, errors="coerce")
    return numbers.to_numpy(dtype=float, na_value=np.nan)


def gain_of(condition: str) -> float | None:
    """The gain of a condition that applies one gain everywhere: base 0, as-delivered 1, ``uniform-<gain>`` its gain.

    None for other conditions, and for gains that are not finite or below 0.
    """
    if condition == BASE:
        return 0.0
    if condition == DELIVERED:
        return 1.0
    if condition.startswith("uniform-"):
        try:
            gain = float(condition.removeprefix("uniform-"))
        except ValueError:
            return None
        return gain if math.isfinite(gain) and gain >= 0 else None
    return None
