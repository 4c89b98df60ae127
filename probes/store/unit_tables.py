"""One unit's tables, read and compared with each other, with their checksums and with what the run's manifest says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from override_gap.probes.store.checksum import DamagedError, read_checked, unit_seal
from override_gap.probes.store.schema import LAYERS, READINGS, TABLES


@dataclass(frozen=True)
class Promises:
    """What a run's manifest says of its units; None where it says nothing.

    `checksums`: whether the version that wrote it writes checksums into tables. `seals`: the hash of the note of every unit's
    readings, and `files` the checksums of JSON files, from the moment the run was complete.
    """

    identity: str | None = None
    checksums: bool = False
    seals: Mapping[str, str] | None = None
    items: int | None = None
    conditions: int | None = None
    layers: int | None = None
    files: Mapping[str, str] | None = None
    asked_base: bool = False
    """Whether old answers are the base's own, so that items.json is the run's even where no checksum of it is stated."""

    @classmethod
    def of(cls, manifest: Mapping[str, Any] | None) -> Promises:
        """The promises of a manifest whose values are plausible (`manifest_error`)."""
        if manifest is None:
            return cls()
        items, subject = manifest.get("items"), manifest.get("subject")
        conditions, seals = manifest.get("conditions"), manifest.get("seals") or {}
        return cls(
            manifest.get("identity"),
            "checksum" in manifest,
            seals.get("units"),
            items.get("count") if isinstance(items, dict) else None,
            None if conditions is None else len(conditions),
            subject.get("layers") if isinstance(subject, dict) else None,
            seals.get("files"),
            isinstance(items, dict) and items.get("prior") is not None,
        )

    def file(self, name: str) -> str | None:
        """The checksum that a JSON file has to have; None where the manifest states none."""
        return (self.files or {}).get(name)

    def is_stray(self, name: str) -> bool:
        """Whether the run was complete without this JSON file, so that one that lies in its folder is another's."""
        return self.files is not None and name not in self.files and not self.asked_base

    def most_rows(self, table: str) -> int | None:
        """The most rows that a unit's file of a table can have; None where the manifest does not say."""
        if self.items is None or self.conditions is None:
            return None
        if table == READINGS.name:
            return self.items * self.conditions
        if table == LAYERS.name and self.layers is not None:
            return self.items * self.conditions * (self.layers + 1)
        return None


@dataclass(frozen=True)
class UnitTables:
    """A unit's tables by name, the readings first, and the note of its readings; None in runs of the first version."""

    tables: Mapping[str, pa.Table]
    note: Mapping[str, Any] | None

    @property
    def faults(self) -> int:
        """Rows that failed for reasons that may be transient."""
        return 0 if self.note is None else int(self.note.get("faults") or 0)


def read_unit(run: Path, key: str, promises: Promises) -> UnitTables:
    """All tables of a unit. Raises DamagedError where one is missing, is not what was written, or belongs elsewhere."""
    readings, note = _read(run, READINGS.name, key, promises)
    _require_own(run / READINGS.name / f"{key}.parquet", key, note, promises)
    tables = {READINGS.name: readings}
    for name in list(TABLES)[1:]:
        file = run / name / f"{key}.parquet"
        expected = None if note is None else (note.get("tables") or {}).get(name)
        if file.is_file() or expected:
            table, own_note = _read(run, name, key, promises)
            if note is not None and (own_note or {}).get("sha256") != expected:
                raise DamagedError(f"{file}: it does not belong to the readings of its unit")
            tables[name] = table
    return UnitTables(tables, note)


def _read(run: Path, name: str, key: str, promises: Promises) -> tuple[pa.Table, Mapping[str, Any] | None]:
    file = run / name / f"{key}.parquet"
    table, note = read_checked(file, TABLES[name], promises.most_rows(name))
    if note is None and promises.checksums:
        raise DamagedError(
            f"{file}: it has no checksum, and the version that measured this run writes one into every table"
        )
    return table, note


def _require_own(file: Path, key: str, note: Mapping[str, Any] | None, promises: Promises) -> None:
    """Raise DamagedError where readings are those of another unit or run, or of this unit measured at another time."""
    if note is None:
        return
    if note.get("unit", key) != key:
        raise DamagedError(f"{file}: it holds the readings of another unit ({str(note['unit'])[:40]})")
    identity = note.get("identity")
    if identity is not None and promises.identity is not None and identity != promises.identity:
        raise DamagedError(f"{file}: it is of another audit (other settings, model, adapters, items or code)")
    if promises.seals is not None and key not in promises.seals:
        raise DamagedError(f"{file}: it is no unit of this run, whose manifest lists them")
    if promises.seals is not None and promises.seals[key] != unit_seal(note):
        raise DamagedError(f"{file}: it is not what this run had measured when it was complete")


def require_items_of(file: Path, table: pa.Table, readings: pa.Table) -> None:
    """Raise DamagedError where a table has rows of an item that the unit's readings do not have."""
    if "item" not in table.column_names:
        return
    unknown = set(table.column("item").unique().to_pylist()) - set(readings.column("item").unique().to_pylist())
    if unknown:
        raise DamagedError(
            f"{file}: it has rows of item {min(map(str, unknown))[:80]!r}, which its unit's readings lack"
        )
