"""The run folder: tables written whole or not at all, keyed by content, so that a run resumes where it stopped."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from override_gap.probes.store.checksum import (
    DamagedError,
    checksum_matches,
    read_checked,
    with_checksum,
    with_table_checksum,
)
from override_gap.probes.store.files import DiskError, leftovers, require_writable, write_whole
from override_gap.probes.store.lock import LOCK, OWNER, locked
from override_gap.probes.store.run_store import Rows
from override_gap.probes.store.schema import DRAWN, LAYERS, READINGS, manifest_error

TABLES = ("readings", "layers", "drawn")
DAMAGED = "damaged"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# what a run that was killed before its manifest may have left
OWN = {*TABLES, "figures", "summary.json", "report.html", DAMAGED, LOCK, OWNER}


class RunError(ValueError):
    """A run folder that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Store:
    """One run folder. A unit is done when its readings are there; its layers are written before them.

    Every table carries its checksum. The readings also say what their unit's other tables are, and how many of its rows
    failed by a fault that another try may not meet: such a unit is not done.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def require_room(self, needed: int = 0) -> None:
        """Raise DiskError unless the folder can be written and, if asked, so many bytes are free."""
        require_writable(self.path, needed)

    @contextmanager
    def locked(self) -> Iterator[str | None]:
        """Make the folder, hold it against other processes, and take away what a killed one left half written.

        Yields a sentence about a holder that died, or None. Raises RunError for a folder of something else or with a symbolic
        link in it, DiskError for one that cannot be written, LockError for one in use.
        """
        self._refuse_foreign()
        refuse_symlinks(self.path)
        require_writable(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise DiskError(f"{self.path}: cannot be written: {fault.strerror or fault}") from fault
        with locked(self.path) as gone:
            for file in leftovers(self.path):
                file.unlink(missing_ok=True)
            yield gone

    def open(self, manifest: Mapping[str, Any], identity: str) -> Mapping[str, Any]:
        """Create the folder, or take up the run that is in it; returns the manifest as it was, or the new one.

        Raises RunError where the folder holds something else.
        """
        self._refuse_foreign()
        refuse_symlinks(self.path)
        old = self.manifest() if (self.path / "manifest.json").exists() else None
        if old is not None and old.get("identity") != identity:
            raise RunError(
                f"{self.path} holds another audit (other settings, model, adapters, items or code); give --out a new folder"
            )
        try:
            for name in ("readings", "layers", "figures"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            if old is None:
                self.write_json("manifest.json", manifest)
        except OSError as fault:
            raise DiskError(f"{self.path}: cannot be written: {fault.strerror or fault}") from fault
        return manifest if old is None else old

    def _refuse_foreign(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; --out needs a folder")
        if self.path.exists() and not (self.path / "manifest.json").exists():
            strange = [f for f in self.path.iterdir() if f.name not in OWN and not f.name.endswith(".tmp")]
            if strange:
                raise RunError(f"{self.path} is not empty and holds no run; give --out a new folder")

    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands. Raises RunError where it is missing or damaged."""
        file = self.path / "manifest.json"
        advice = "; `override-gap doctor` says what can be kept"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            whole = isinstance(found, dict) and checksum_matches(found)
        except OSError as fault:
            raise RunError(f"{file}: cannot be read: {fault.strerror or fault}{advice}") from fault
        except (ValueError, RecursionError) as fault:
            raise RunError(f"{file}: cannot be read: {fault}{advice}") from fault
        if not whole:
            raise RunError(f"{file}: its content is not what was written (the checksum differs){advice}")
        wrong = manifest_error(found)
        if wrong is not None:
            raise RunError(f"{file}: {wrong}{advice}")
        return found

    def keys(self) -> list[str]:
        """The units that have readings here, sound or not."""
        return sorted(file.stem for file in (self.path / "readings").glob("*.parquet"))

    def exists(self) -> bool:
        """Whether a run is here."""
        return (self.path / "manifest.json").is_file()

    def done(self, key: str) -> bool:
        """Whether a unit's tables are here; with those of `pending`, whether they need not be measured again."""
        return all((self.path / name / f"{key}.parquet").is_file() for name in ("readings", "layers"))

    def faults(self, key: str) -> int:
        """How many rows of a unit failed by a fault that another try may not meet. Raises DamagedError.

        All of the unit's tables are read and compared with their checksums.
        """
        readings, said = read_checked(self._file("readings", key))
        lacks = [name for name in ("item", "condition", "status") if name not in readings.column_names]
        if lacks:
            raise DamagedError(f"{self._file('readings', key)}: no column {', '.join(lacks)}, so these are no readings")
        for name in TABLES[1:]:
            file = self._file(name, key)
            wanted = None if said is None else (said.get("tables") or {}).get(name)
            if file.is_file() or wanted or (said is None and name == "layers"):
                _, own = read_checked(file)
                if said is not None and (own or {}).get("sha256") != wanted:
                    raise DamagedError(f"{file}: it does not belong to the readings of its unit")
        return 0 if said is None else int(said.get("faults") or 0)

    def pending(self, keys: Sequence[str]) -> tuple[list[str], list[str]]:
        """Which of these units are to be measured, and what was wrong with tables that were set aside for it.

        Raises RunError where the folder holds readings of other units.
        """
        strange = sorted(set(self.keys()) - set(keys))
        if strange:
            raise RunError(f"{self.path} holds readings of another audit ({strange[0]}); give --out a new folder")
        todo, wrong = [], []
        for key in keys:
            if not self.done(key):
                todo.append(key)
                continue
            try:
                if self.faults(key):
                    todo.append(key)
            except DamagedError as fault:
                wrong.append(str(fault))
                self.set_aside(key)
                todo.append(key)
        return todo, wrong

    def set_aside(self, key: str) -> list[Path]:
        """Move a unit's tables to RUN/damaged, so that it is measured again; returns where they went."""
        moved = []
        for name in TABLES:
            file = self._file(name, key)
            if file.exists():
                (self.path / DAMAGED).mkdir(exist_ok=True)
                target = self.path / DAMAGED / f"{name}-{file.name}"
                file.replace(target)
                moved.append(target)
        return moved

    def write_unit(self, key: str, readings: Rows, layers: Rows, drawn: Rows = (), faults: int = 0) -> None:
        """Write a unit's tables, the readings last; that of the drawn answers only where there are any.

        Raises DiskError where the disk does not take them; nothing half written is left.
        """
        try:
            # readings that are there are of a try that failed; without them the unit is not done, whatever happens now
            self._file("readings", key).unlink(missing_ok=True)
            others = {"layers": self._write_table("layers", key, layers, LAYERS)}
            if drawn:
                (self.path / "drawn").mkdir(exist_ok=True)
                others["drawn"] = self._write_table("drawn", key, drawn, DRAWN)
            else:
                self._file("drawn", key).unlink(missing_ok=True)
            self._write_table("readings", key, readings, READINGS, tables=others, faults=faults)
        except OSError as fault:
            raise _full(self.path, fault) from fault

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file of the run, whole or not at all; the manifest with its checksum."""
        if name == "manifest.json":
            content = with_checksum(content)
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            write_whole(self.path / name, lambda file: file.write_text(text, encoding="utf-8"))
        except OSError as fault:
            raise _full(self.path / name, fault) from fault

    @contextmanager
    def local_copy(self) -> Iterator[Path]:
        """The folder itself; nothing has to be copied."""
        yield self.path

    def _file(self, folder: str, key: str) -> Path:
        return self.path / folder / f"{key}.parquet"

    def _write_table(self, folder: str, key: str, rows: Rows, schema: pa.Schema, **said: Any) -> str:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
        table, checksum = with_table_checksum(table, unit=key, **said)
        write_whole(self._file(folder, key), lambda file: pq.write_table(table, file))
        return checksum


def symlinks(run: Path) -> Iterator[Path]:
    """The symbolic links in a run folder; none is followed."""
    for folder, folders, files in os.walk(run):
        yield from (place for name in (*folders, *files) if (place := Path(folder) / name).is_symlink())


def refuse_symlinks(run: Path) -> None:
    """Raise RunError where a run folder holds a symbolic link: what is written through one lands elsewhere."""
    for link in symlinks(run):
        raise RunError(f"{link} is a symbolic link; a run folder is written to and holds none, remove it")


def _full(path: Path, fault: OSError) -> DiskError:
    help_it = "make room" if fault.errno in NO_ROOM else "see to it that it can be written"
    return DiskError(
        f"{path}: cannot be written: {fault.strerror or fault}; what was measured is kept: {help_it}, then give the same "
        "command again"
    )
