"""Sealed runs: a run folder's manifest and tables, read and compared with each other, or the reason why they cannot be used.

`read_sealed` is how whatever reads a run's numbers reads them; `override-gap doctor` prints what it finds, in the same words.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from override_gap.probes.store.checksum import DamagedError
from override_gap.probes.store.finding import MADE_AGAIN, RERUN, SERIOUS, FileFinding, repairing
from override_gap.probes.store.fold import Fold
from override_gap.probes.store.folder import PIPE, RunError, Store, pipes, symlinks
from override_gap.probes.store.schema import READINGS, TABLES
from override_gap.probes.store.sealed_json import SEALED_FILES, STRAY, sealed_file_error
from override_gap.probes.store.table_checks import checked
from override_gap.probes.store.unit_tables import Promises, read_unit, require_items_of
from override_gap.probes.store.units_together import UnitsTogether
from override_gap.probes.store.unreadable import ReadError, names_in

NO_CHECKSUMS = (
    "the tables have no checksum (written by an older version): whether they are as they were measured is not known"
)


@dataclass(frozen=True)
class SealedRun:
    """A run's manifest, its sound units' tables by name, and what was found; `faults`: rows that may succeed another time."""

    manifest: dict[str, Any]
    tables: Mapping[str, list[pa.Table]]
    findings: tuple[FileFinding, ...]
    units: int
    rows: int
    errors: int
    faults: int
    content: str | None = None
    """SHA-256 over the manifest and every unit's seal, the same for the same numbers; None where a table has no checksum."""

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader of its numbers has to know, one sentence each."""
        unchecked = any(finding.kind == "unchecked" for finding in self.findings)
        return (NO_CHECKSUMS,) if unchecked else ()


def read_sealed(run: Path, keep: bool = True) -> SealedRun:
    """A run's manifest and tables (none without `keep`).

    Raises RunError with the first finding of `doctor` that keeps the run's numbers from being used.
    """
    sealed = examine(run, keep)
    for finding in sealed.findings:
        if finding.kind in SERIOUS:
            raise RunError(f"{run}: {finding}")
    return sealed


def examine(run: Path, keep: bool = True) -> SealedRun:
    """Read every table of a run folder and compare it with its checksum, its unit and the manifest; see `read_sealed`.

    Without `keep` the tables are not kept once they are compared. Raises RunError for a folder without a run.
    """
    if not run.is_dir() or not any(os.path.lexists(run / name) for name in ("manifest.json", "readings")):
        raise RunError(
            f"{run}: no manifest.json and no readings, so this is not a run folder; give the --out of an audit"
        )
    links = sorted(symlinks(run))
    if links:
        advice = "remove it and give the command again; nothing else was checked, so that no link is followed"
        found = (FileFinding("link", str(link.relative_to(run)), "it is a symbolic link", advice) for link in links)
        return SealedRun({}, {}, tuple(found), 0, 0, 0, 0)
    opened = sorted(pipes(run))
    if opened:
        advice = "remove it and give the command again; nothing else was checked, so that no command waits for it"
        found = (FileFinding("unreadable", str(pipe.relative_to(run)), f"it is {PIPE}", advice) for pipe in opened)
        return SealedRun({}, {}, tuple(found), 0, 0, 0, 0)
    manifest, findings = read_manifest(run)
    promises, seen = Promises.of(manifest), UnitsTogether()
    tables = {name: Fold() for name in TABLES}
    try:
        keys = units(run)
    except ReadError as fault:
        return SealedRun(manifest or {}, {}, (*findings, _unread(run, fault)), 0, 0, 0, 0)
    for key in keys:
        try:
            unit = read_unit(run, key, promises)
        except DamagedError as fault:
            findings.append(_unsound_unit(run, key, fault))
            continue
        except ReadError as fault:
            findings.append(_unread(run, fault))
            continue
        plain: dict[str, pa.Table] = {}
        try:
            for name, table in unit.tables.items():
                file = run / name / f"{key}.parquet"
                plain[name] = checked(file, table) if len(table) else table
                require_items_of(file, plain[name], plain[READINGS.name])
        except DamagedError as fault:
            findings.append(_unsound_unit(run, key, fault))
            continue
        except ValueError as fault:
            says = str(fault).removeprefix(f"{run}/").removesuffix(f"; {MADE_AGAIN}")
            findings.append(FileFinding("inconsistent", key, says, MADE_AGAIN))
            continue
        seen.add(key, replace(unit, tables=plain))
        for name, table in plain.items():
            if keep and len(table):
                tables[name].add(table)
    unread = any(finding.kind == "unreadable" for finding in findings)  # what the others lack is then not known
    findings += [*seen.findings(), *(() if unread else seen.against(manifest)), *_files(run, promises)]
    counts = len(keys), seen.rows, seen.errors, seen.faults
    kept = {name: fold.tables() for name, fold in tables.items()}
    return SealedRun(manifest or {}, kept, tuple(findings), *counts, None if unread else seen.content(manifest))


def read_manifest(run: Path) -> tuple[dict[str, Any] | None, list[FileFinding]]:
    """The manifest, or None and the finding why there is none."""
    name = "manifest.json"
    if not (run / name).exists():
        advice = f"{RERUN}: it is written again and sound readings are kept"
        return None, [FileFinding("missing", name, "there is none", advice)]
    try:
        return Store(run).manifest(), []
    except ReadError as fault:
        return None, [_unread(run, fault)]
    except RunError as fault:
        says = str(fault).split("; `override-gap")[0].removeprefix(f"{run / name}: ")
        advice = f"{repairing(run)} moves it aside; then {RERUN}: sound readings are kept"
        return None, [FileFinding("damaged", name, says, advice)]


def units(run: Path) -> list[str]:
    """Every key that a table of the folder has. Raises ReadError."""
    return sorted({Path(f).stem for name in TABLES for f in names_in(run / name) if f.endswith(".parquet")})


def _unread(run: Path, fault: ReadError) -> FileFinding:
    return FileFinding("unreadable", str(Path(fault.filename).relative_to(run)), fault.says, fault.remedy)


def _unsound_unit(run: Path, key: str, fault: DamagedError) -> FileFinding:
    if not (run / "readings" / f"{key}.parquet").exists():
        says = "begun and not finished: it has no readings"
        return FileFinding("unfinished", key, says, f"{RERUN}: it is measured again")
    says = str(fault).removeprefix(f"{run}/")
    return FileFinding("damaged", key, says, f"{repairing(run)} moves the unit aside; then {RERUN}")


def _files(run: Path, promises: Promises) -> Iterator[FileFinding]:
    """What is wrong with the run's JSON files that hold a checksum, but for the manifest."""
    for name in SEALED_FILES[1:]:
        try:
            error = sealed_file_error(run / name, promises.file(name), stray=promises.is_stray(name))
        except ReadError as fault:
            yield _unread(run, fault)
            continue
        if error is not None:
            kind = "damaged" if (run / name).exists() else "missing"
            advice = f"{repairing(run)} moves it aside"
            yield FileFinding(kind, name, error, advice if error == STRAY else f"{advice}; then {RERUN}")
