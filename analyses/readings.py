"""The readings of one run as tables, and the few selections that every analysis makes."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from override_gap.margins.conditions import variant
from override_gap.margins.strict_json import read_json
from override_gap.probes.store.checksum import DamagedError, read_checked
from override_gap.probes.store.schema import REQUIRED, checked, manifest_error

Table = Any
"""A pandas table or column; pandas annotates its results as unions that a type checker cannot follow."""

BASE, DELIVERED = "base", "as-delivered"
SPLITS = ("novel", "combination", "conflict", "retention")
TIERS = ("light", "medium", "deep")
MEASURES = ("margin", "top1", "answer", "answer_substring")
POPULATIONS = ("all", "known")

OPTIONAL = [
    "tier",
    "prior_logprob_per_token",
    "success_answer",
    "success_answer_substring",
    "answer_text",
    "base_top_token",
    "base_top_prob",
    "gain_mean",
    "adapter_norm",
    "n_question_tokens",
    "frequency",
    "wording",
    "top_token",
    "top_prob",
    "question",
    "document",
    "answer",
    "prior_answer",
    "doc_logprob",
    "critical_gain",
    "critical_gain_predicted",
]
LAYER_COLUMNS = [
    "item",
    "point",
    "split",
    "condition",
    "layer",
    "norm",
    "gain",
    "attribution",
    "lens",
    "direct",
    "alone",
    "removed",
]


@dataclass(frozen=True, eq=False)
class RunFrame:
    """One run: its manifest, one row per item x condition, one row per item x condition x layer.

    `drawn` holds answers drawn at a temperature, one row per item x condition x temperature x draw; empty without them.
    """

    manifest: dict[str, Any]
    readings: Table
    layers: Table = field(default_factory=lambda: pd.DataFrame(columns=LAYER_COLUMNS))
    drawn: Table = field(default_factory=pd.DataFrame)

    def __post_init__(self) -> None:
        absent = [name for name in REQUIRED if name not in self.readings.columns]
        if absent:
            raise ValueError(f"readings lack the columns {', '.join(absent)}; a run of this toolkit writes them")
        for table, names in ((self.readings, OPTIONAL), (self.layers, LAYER_COLUMNS)):
            gaps = [name for name in names if name not in table.columns]
            if gaps:
                filled = table.assign(**dict.fromkeys(gaps, None))
                object.__setattr__(self, "readings" if table is self.readings else "layers", filled)
        _once(self.readings, "readings", ["item", "condition"])
        _once(self.layers, "rows in layers", ["item", "condition", "layer"])

    @cached_property
    def measured(self) -> Table:
        """Rows that enter statistics, status ok, in an order that does not hang on how they were stored."""
        return self.readings[self.readings["status"] == "ok"].sort_values(["item", "condition"], kind="stable")

    @cached_property
    def cells(self) -> dict[tuple[str, str], Table]:
        """Measured rows of each split and condition, sorted by item; every analysis reads these, so they are kept."""
        return {(str(split), str(name)): part for (split, name), part in self.measured.groupby(["split", "condition"])}

    @cached_property
    def conditions(self) -> list[str]:
        """The base's and the policies' names in the run's own order; variants are apart, since no policy is among them."""
        return [name for name in self._named if not variant(name)]

    @cached_property
    def variants(self) -> list[str]:
        """Conditions whose adapter or prompt is made of something else than the item's document as it stands."""
        return [name for name in self._named if variant(name)]

    @cached_property
    def _named(self) -> list[str]:
        listed = [str(name) for name in self.manifest.get("conditions") or []]
        return list(dict.fromkeys([*listed, *self.readings["condition"].astype(str)]))

    def select(self, split: str, condition: str | None = None, population: str = "all") -> Table:
        """Measured rows of a split, a condition (None: every one) and a population ("all" or "known"), by item."""
        if condition is None:
            rows = self.measured[self.measured["split"] == split]
        else:
            rows = self.cells.get((split, condition), self.measured.iloc[:0])
        if population == "known":
            rows = rows[truth(rows["known"]) == 1.0]
        return rows


def load(path: str | Path) -> RunFrame:
    """Read a run folder; a folder that is none is a ValueError that says what is missing."""
    folder = Path(path)
    manifest_file = folder / "manifest.json"
    if not manifest_file.is_file():
        raise ValueError(f"{folder}: no manifest.json, so this is not a run folder; give the --out of an audit")
    try:
        manifest = read_json(manifest_file)
    except ValueError as error:
        raise ValueError(f"{error}; the run has to be made again") from error
    if not isinstance(manifest, dict):
        raise ValueError(f"{manifest_file}: a JSON object was expected, this is a {type(manifest).__name__}")
    wrong = manifest_error(manifest)
    if wrong is not None:
        raise ValueError(f"{manifest_file}: {wrong}; the run has to be made again")
    shard = manifest.get("shard")
    if shard is not None:
        raise ValueError(
            f"{folder}: shard {shard['number']} of {shard['of']} of a run; join them with `override-gap merge` first"
        )
    readings = table(folder / "readings")
    if readings is None and any((folder / "readings").glob("*.parquet")):
        raise ValueError(f"{folder / 'readings'}: its files hold no rows; the run has to be made again")
    if readings is None:
        raise ValueError(
            f"{folder}: no readings/*.parquet, so nothing was measured yet; finish the audit with --resume"
        )
    layers, drawn = table(folder / "layers"), table(folder / "drawn")
    try:
        return RunFrame(
            manifest,
            readings,
            pd.DataFrame(columns=LAYER_COLUMNS) if layers is None else layers,
            pd.DataFrame() if drawn is None else drawn,
        )
    except ValueError as error:
        raise ValueError(f"{folder}: {error}; the run has to be made again") from error


def table(folder: Path) -> Table | None:
    """All Parquet files of a folder as one table, in the order of their names; None where there are no rows."""
    try:
        # A part in which a column is all null does not decide that column's type, nor does a note of who wrote it.
        parts = list(_parts(folder))
        joined = pa.concat_tables(parts, promote_options="permissive") if parts else None
        # No part is held any longer, so that each column's memory is given back once pandas has its own.
        parts.clear()
        return None if joined is None else joined.to_pandas(ignore_metadata=True, self_destruct=True, split_blocks=True)
    except pa.ArrowException as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(f"{folder}: its tables are not of one audit: {why}; the run has to be made again") from error


def _parts(folder: Path) -> Iterator[pa.Table]:
    for file in sorted(folder.glob("*.parquet")):
        try:
            held, _ = read_checked(file)
        except DamagedError as error:
            raise ValueError(
                f"{error}; `override-gap doctor {folder.parent} --repair` moves it aside, and the audit's own command "
                "measures it again"
            ) from error
        if len(held):
            yield checked(file, held)


def _once(table: Table, what: str, names: list[str]) -> None:
    """Raise ValueError where two rows have the same names."""
    twice = table.duplicated(names)
    if twice.any():
        item, condition, *layer = (table[twice].iloc[0][name] for name in names)
        at = f" at layer {layer[0]}" if layer else ""
        raise ValueError(
            f"item {reprlib.repr(item)} has two {what} under {reprlib.repr(condition)}{at}; one is expected"
        )


def truth(column: Table) -> np.ndarray:
    """A nullable boolean column as floats: 1, 0, NaN where nothing was measured."""
    return values(column)


def values(column: Table) -> np.ndarray:
    """A nullable numeric column as float64 with NaN for null."""
    numbers: Any = pd.to_numeric(column, errors="coerce")
    return numbers.to_numpy(dtype=float, na_value=np.nan)


def gain_of(condition: str) -> float | None:
    """Position on the dose axis: base 0, as-delivered 1, ``uniform-<gain>`` its gain; None for other conditions.

    A dose is finite and not below 0; a name that says otherwise has none.
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
