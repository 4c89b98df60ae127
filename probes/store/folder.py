"""The run folder: tables written whole or not at all, keyed by content, so that a run resumes where it stopped."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from override_gap.margins.whole_files import DISK_FULL, make_folder, move, remove_abandoned, write_text, write_whole
from override_gap.probes.store.checksum import (
    DamagedError,
    read_note,
    unit_seal,
    with_checksum,
    with_table_checksum,
)
from override_gap.probes.store.differences import differences
from override_gap.probes.store.files import DiskError, leftovers, require_writable
from override_gap.probes.store.lock import LOCK, OWNER, locked, require_held
from override_gap.probes.store.manifest import manifest_error
from override_gap.probes.store.run_store import Rows
from override_gap.probes.store.schema import EXTRA, LAYERS, READINGS, TABLES, RunTable
from override_gap.probes.store.sealed_json import SEALED_FILES, read_sealed_json
from override_gap.probes.store.unit_tables import Promises, read_unit
from override_gap.probes.store.unreadable import names_in

DAMAGED = "damaged"
FOLDER_OF_ADAPTERS = "adapters"
"""What a method that runs in an environment of its own writes."""
PIPE = "a pipe, a socket or a device, which an audit does not write"
SINCE_CHECKSUMS = {"memory", "seals"}
"""Keys of a manifest that versions before checksums did not write."""
# what a run that was killed before it wrote its manifest may have left
RUN_FILES = {*TABLES, FOLDER_OF_ADAPTERS, "figures", "summary.json", "report.html", DAMAGED, LOCK, OWNER}


class RunError(ValueError):
    """A run folder that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Store:
    """One run folder. A unit is measured once its readings are there; its other tables are written before them.

    Every table holds its checksum. The readings also hold the checksums of their unit's other tables, and how many of its
    rows failed for reasons that may be transient: a unit with such rows is measured again.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def require_room(self, needed: int = 0) -> None:
        """Raise DiskError unless the folder can be written and has `needed` bytes free."""
        require_writable(self.path, needed)

    @contextmanager
    def locked(self) -> Iterator[str | None]:
        """Create the folder, lock it against other processes, and remove what a killed one left half written.

        Yields a sentence about a lock's holder that died, or None. Raises RunError for a folder that holds something else or
        a symbolic link, DiskError for one that cannot be written, LockError for one in use.
        """
        self._refuse_foreign()
        refuse_symlinks(self.path)
        require_writable(self.path)
        try:
            make_folder(self.path)
        except OSError as fault:
            raise DiskError(f"{self.path}: cannot be written: {fault.strerror or fault}") from fault
        with locked(self.path) as dead_holder:
            remove_abandoned(leftovers(self.path))
            yield dead_holder

    def open(self, manifest: Mapping[str, Any], identity: str) -> Mapping[str, Any]:
        """Create the run, or resume the one that is in the folder; returns the manifest as it was, or the new one.

        Raises RunError where the folder holds something else.
        """
        self._refuse_foreign()
        refuse_symlinks(self.path)
        old = self.manifest() if (self.path / "manifest.json").exists() else None
        if old is not None and old.get("identity") != identity:
            raise RunError(f"{self.path} holds another audit ({differences(old, manifest)}); give --out a new folder")
        try:
            for name in ("readings", "layers", "figures"):
                make_folder(self.path / name)
            if old is None:
                self.write_json("manifest.json", manifest)
        except OSError as fault:
            raise DiskError(f"{self.path}: cannot be written: {fault.strerror or fault}") from fault
        return manifest if old is None else old

    def _refuse_foreign(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; --out needs a folder")
        if self.path.exists() and not (self.path / "manifest.json").exists():
            foreign = [f for f in self.path.iterdir() if f.name not in RUN_FILES and not f.name.endswith(".tmp")]
            if foreign:
                raise RunError(f"{self.path} is not empty and holds no run; give --out a new folder")

    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands. Raises RunError where it is missing or damaged."""
        file = self.path / "manifest.json"
        if file.exists() and not file.is_file() and not file.is_dir():
            raise RunError(f"{file} is {PIPE}; remove it")
        advice = "; `override-gap doctor` says what can be kept"
        try:
            manifest = read_sealed_json(file)
        except ValueError as fault:
            raise RunError(f"{fault}{advice}") from fault
        if "checksum" not in manifest and (SINCE_CHECKSUMS & manifest.keys() or self._any_note()):
            raise RunError(f"{file}: its checksum was taken out, which the version that wrote it writes{advice}")
        error = manifest_error(manifest)
        if error is not None:
            raise RunError(f"{file}: {error}{advice}")
        return manifest

    def _any_note(self) -> bool:
        """Whether any readable table has a note: the version that first wrote these sealed its manifests too."""
        for table in TABLES:
            for name in names_in(self.path / table):
                try:
                    read_note(self.path / table / name)
                except DamagedError:  # none, or it cannot be read: that is said of the table
                    continue
                return True
        return False

    def keys(self) -> list[str]:
        """The units that have readings here, damaged or not. Raises ReadError."""
        return [Path(name).stem for name in names_in(self.path / "readings") if name.endswith(".parquet")]

    def exists(self) -> bool:
        """Whether a run is here."""
        return (self.path / "manifest.json").is_file()

    def _has_unit(self, key: str) -> bool:
        """Whether a unit's readings and layers are here; they are not read."""
        return all((self.path / name / f"{key}.parquet").is_file() for name in ("readings", "layers"))

    def faults(self, key: str, promises: Promises | None = None) -> int:
        """How many rows of a unit failed for reasons that may be transient.

        All of the unit's tables are read and compared with their checksums, and with what the manifest says of them (read
        here without `promises`); raises DamagedError where they differ.
        """
        return read_unit(self.path, key, self.promises() if promises is None else promises).faults

    def promises(self) -> Promises:
        """What the manifest says of the units. Raises RunError where it is damaged; where there is none, it says nothing."""
        return Promises.of(self.manifest() if self.exists() else None)

    def seals(self, keys: Sequence[str]) -> dict[str, dict[str, str]]:
        """What a complete run's manifest says of its files: the hash of each unit's note, the checksums of JSON files."""
        units = {key: unit_seal(read_note(self._file("readings", key))) for key in keys}
        contents = {name: self.read_json(name) for name in SEALED_FILES[1:]}
        files = {name: content["checksum"] for name, content in contents.items() if content and "checksum" in content}
        return {"units": units, "files": files}

    def pending(self, keys: Sequence[str]) -> tuple[list[str], list[str]]:
        """Which of these units are to be measured, and what was wrong with tables that were set aside for it.

        Raises RunError where the folder holds readings of other units, ReadError where one may be sound and cannot be read.
        """
        foreign = sorted(set(self.keys()) - set(keys))
        if foreign:
            raise RunError(f"{self.path} holds readings of another audit ({foreign[0]}); give --out a new folder")
        todo, damage = [], []
        promises = self.promises()
        for key in keys:
            if not self._has_unit(key):
                todo.append(key)
                continue
            try:
                if self.faults(key, promises):
                    todo.append(key)
            except DamagedError as fault:
                damage.append(str(fault))
                self.set_aside(key)
                todo.append(key)
        return todo, damage

    def set_aside(self, key: str) -> list[Path]:
        """Move a unit's tables to RUN/damaged, so that it is measured again; returns their new paths."""
        moved = []
        for name in TABLES:
            file = self._file(name, key)
            if file.exists():
                moved.append(move(file, make_folder(self.path / DAMAGED) / f"{name}-{file.name}"))
        return moved

    def write_unit(
        self,
        key: str,
        readings: Rows,
        layers: Rows,
        faults: int = 0,
        tables: Mapping[str, Rows] | None = None,
        identity: str | None = None,
    ) -> None:
        """Write a unit's tables, the readings last; of `tables`, by name, those that have rows.

        `faults`: rows that failed for reasons that may be transient; `identity`: that of the run. Raises LockError where another
        process took over the folder that this one had locked, DiskError where the disk does not take the tables, ValueError
        for a table or column that the schema does not state; nothing half written is left.
        """
        require_held(self.path)
        try:
            # readings that are there are of an attempt that failed; without them the unit is pending, whatever happens now
            self._file("readings", key).unlink(missing_ok=True)
            checksums = {"layers": self._write_table(LAYERS, key, layers)}
            given = dict(tables or {})
            unstated = set(given).difference(table.name for table in EXTRA)
            if unstated:
                raise ValueError(f"no table {', '.join(sorted(unstated))} is stated in the schema")
            for table in EXTRA:
                rows = given.get(table.name)
                if rows:
                    make_folder(self.path / table.name)
                    checksums[table.name] = self._write_table(table, key, rows)
                else:
                    self._file(table.name, key).unlink(missing_ok=True)
            of_run = {} if identity is None else {"identity": identity}
            self._write_table(READINGS, key, readings, tables=checksums, faults=faults, **of_run)
        except OSError as fault:
            raise _disk_error(self.path, fault) from fault

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run, or None where it is missing, no JSON object, or not what was written. Raises ReadError."""
        try:
            return read_sealed_json(self.path / name)
        except ValueError:
            return None

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file of the run, whole or not at all; those of SEALED_FILES with their checksum."""
        require_held(self.path)
        if name in SEALED_FILES:
            content = with_checksum(content)
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            write_text(self.path / name, text)
        except OSError as fault:
            raise _disk_error(self.path / name, fault) from fault

    @contextmanager
    def local_copy(self) -> Iterator[Path]:
        """The folder itself; nothing has to be copied."""
        yield self.path

    def _file(self, folder: str, key: str) -> Path:
        return self.path / folder / f"{key}.parquet"

    def _write_table(self, table: RunTable, key: str, rows: Rows, **note: Any) -> str:
        content, checksum = with_table_checksum(table.from_rows(rows), unit=key, **note)
        write_whole(self._file(table.name, key), lambda file: pq.write_table(content, file))
        return checksum


def symlinks(run: Path) -> Iterator[Path]:
    """The symbolic links in a run folder; none is followed."""
    for folder, folders, files in os.walk(run):
        yield from (path for name in (*folders, *files) if (path := Path(folder) / name).is_symlink())


def pipes(run: Path) -> Iterator[Path]:
    """What in a run folder is neither file nor folder nor link: a pipe keeps its reader waiting, a device may have no end."""
    for folder, folders, files in os.walk(run):
        for path in (Path(folder) / name for name in (*folders, *files)):
            with suppress(OSError):  # gone meanwhile
                mode = path.lstat().st_mode
                if not any(is_(mode) for is_ in (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)):
                    yield path


def refuse_symlinks(run: Path) -> None:
    """Raise RunError where a run folder holds a symbolic link, through which would be written elsewhere, or a pipe."""
    for link in symlinks(run):
        raise RunError(f"{link} is a symbolic link; files would be written outside the run folder, remove it")
    for pipe in pipes(run):
        raise RunError(f"{pipe} is {PIPE}; remove it")


def _disk_error(path: Path, fault: OSError) -> DiskError:
    remedy = "make room" if fault.errno in DISK_FULL else "make it writable"
    return DiskError(
        f"{path}: cannot be written: {fault.strerror or fault}; what was measured is kept: {remedy}, then give the same "
        "command again"
    )
