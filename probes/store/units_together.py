"""A run's units together: compared with each other, and with what the manifest says of units, items and conditions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from override_gap.probes.store.checksum import unit_seal
from override_gap.probes.store.finding import MADE_AGAIN, RERUN, FileFinding
from override_gap.probes.store.schema import LAYERS, READINGS, SEARCH
from override_gap.probes.store.unit_tables import Promises, UnitTables

KEYS = {
    READINGS.name: ("item", "condition"),
    LAYERS.name: ("item", "condition", "layer"),
    SEARCH.name: ("item", "condition", "gain"),
}
"""Columns in which no two rows of a table agree."""
UNCHECKED = "its tables have no checksum (written by an older version)"


@dataclass
class UnitsTogether:
    """What a run's units showed so far. It is filled unit by unit, and so not frozen."""

    conditions_of: dict[str, frozenset[str]] = field(default_factory=dict)
    """Each item's conditions; items of the same conditions share one set."""
    schemas: dict[str, list[pa.Schema]] = field(default_factory=dict)
    """The distinct schemas of each table: thousands of units have a few."""
    duplicates: dict[str, str] = field(default_factory=dict)
    checked: int = 0
    unchecked: list[str] = field(default_factory=list)
    rows: int = 0
    errors: int = 0
    faults: int = 0
    seals: dict[str, str] = field(default_factory=dict)
    _shared: dict[frozenset[str], frozenset[str]] = field(default_factory=dict)

    def content(self, manifest: Mapping[str, Any] | None) -> str | None:
        """The hash of all that was added, and of the manifest; None where a unit or the manifest has no checksum."""
        if self.unchecked or manifest is None or "checksum" not in manifest:
            return None
        return hashlib.sha256(json.dumps([manifest["checksum"], self.seals], sort_keys=True).encode()).hexdigest()

    @property
    def units(self) -> int:
        return self.checked + len(self.unchecked)

    def add(self, key: str, unit: UnitTables) -> None:
        """Count a unit's rows, and compare its items with those of the units before it."""
        if unit.note is None:
            self.unchecked.append(key)
        else:
            self.checked += 1
            self.seals[key] = unit_seal(unit.note)
        self.faults += unit.faults
        readings = unit.tables[READINGS.name]
        self.rows += len(readings)
        self.errors += sum(status == "error" for status in readings.column("status").to_pylist())
        own: dict[str, set[str]] = {}
        for item, condition in _pairs(readings):
            known = own.setdefault(item, set())
            if condition in known or item in self.conditions_of:
                self.duplicates.setdefault(key, f"item {item!r} has two readings under {condition!r}; one is expected")
            known.add(condition)
        for item, names in own.items():
            conditions = self.conditions_of.get(item, frozenset()) | names
            self.conditions_of[item] = self._shared.setdefault(conditions, conditions)
        for name, table in unit.tables.items():
            if len(table) and table.schema not in (distinct := self.schemas.setdefault(name, [])):
                distinct.append(table.schema)
            if name != READINGS.name and name in KEYS:
                self._count_rows(key, name, table)

    def _count_rows(self, key: str, name: str, table: pa.Table) -> None:
        columns = list(KEYS[name])
        if len(table.group_by(columns).aggregate([])) < len(table):
            counts = table.group_by(columns).aggregate([([], "count_all")]).to_pylist()
            row = next(row for row in counts if row["count_all"] > 1)
            at = f"{columns[2]} {row[columns[2]]:g}"
            says = f"item {row['item']!r} has two rows in {name} under {row['condition']!r} at {at}; one is expected"
            self.duplicates.setdefault(key, says)

    def findings(self) -> Iterator[FileFinding]:
        """Units without a checksum, and items that are in two of them."""
        for key in self.unchecked:
            if self.checked:
                says = "its tables have no checksum, and those of other units have one"
                yield FileFinding("damaged", key, says, "measure again into a new folder")
            else:
                advice = "its numbers cannot be checked; measure again into a new folder if in doubt"
                yield FileFinding("unchecked", key, UNCHECKED, advice)
        advice = "the tables of two audits cannot be told apart; measure again into a new folder"
        for key, says in self.duplicates.items():
            yield FileFinding("inconsistent", key, says, advice)

    def against(self, manifest: Mapping[str, Any] | None) -> Iterator[FileFinding]:
        """Where the units differ from what the manifest says of them, and in the kinds of their columns."""
        yield from _differences(manifest, self)
        yield from _kinds(self)


def _pairs(readings: pa.Table) -> Iterator[tuple[Any, Any]]:
    return zip(*(readings.column(name).to_pylist() for name in KEYS[READINGS.name]), strict=True)


def _differences(manifest: Mapping[str, Any] | None, seen: UnitsTogether) -> Iterator[FileFinding]:
    """Where the manifest and the tables say different things of units, items and conditions."""
    if manifest is None:
        return
    again = "measure again into a new folder"
    promised, complete = units_promised(manifest), bool(manifest.get("complete"))
    if seen.units < promised:
        kind = "missing" if complete else "unfinished"
        says = f"{promised - seen.units} of {promised} units have no sound readings"
        yield FileFinding(kind, "readings", says, f"{RERUN}: only these are measured")
    if seen.units > promised and manifest.get("units") is not None:
        says = f"there are readings of {seen.units} units, the manifest says {promised}"
        yield FileFinding("inconsistent", "readings", says, again)
    conditions = set(manifest.get("conditions") or ())
    lacking = sorted(item for item, measured in seen.conditions_of.items() if conditions - measured)
    if lacking:
        says = f"{len(lacking)} items lack a condition, for example {lacking[0]!r}"
        yield FileFinding("inconsistent", "readings", says, again)
    foreign = sorted(set().union(*seen.conditions_of.values()) - conditions) if conditions else []
    if foreign:
        says = f"they were read under {foreign[0]!r}, which is no condition of the manifest"
        yield FileFinding("inconsistent", "readings", says, again)
    items = items_promised(manifest)
    if complete and items is not None and seen.units == promised and len(seen.conditions_of) != items:
        says = f"they are of {len(seen.conditions_of)} items, the manifest says {items}"
        yield FileFinding("inconsistent", "readings", says, again)


def units_promised(manifest: Mapping[str, Any]) -> int:
    """How many units a manifest says that the finished run, or its shard, has."""
    total, shard = manifest.get("units") or 0, manifest.get("shard")
    of_shard = len(range(shard["number"] - 1, total, shard["of"])) if shard else total
    stopped = (manifest.get("until") or {}).get("stopped")
    return of_shard if stopped is None else stopped["units"]


def items_promised(manifest: Mapping[str, Any]) -> int | None:
    """How many items a manifest says that the finished run has; None for a shard, of which it does not say."""
    stopped = (manifest.get("until") or {}).get("stopped")
    if manifest.get("shard") or manifest.get("units") is None:
        return None
    return Promises.of(manifest).items if stopped is None else stopped["items"]


def _kinds(seen: UnitsTogether) -> Iterator[FileFinding]:
    """Tables whose columns are of other kinds in one unit than in another."""
    for name, schemas in seen.schemas.items():
        try:
            pa.unify_schemas(schemas, promote_options="permissive")
        except pa.ArrowException as fault:
            says = f"its tables are not of one audit: {' '.join(str(fault).split())[:300]}"
            yield FileFinding("inconsistent", name, says, MADE_AGAIN)
