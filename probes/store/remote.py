"""Runs at a URL: s3://, gs:// and whatever else fsspec opens, holding the files that a run folder here would hold."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from override_gap.margins.scratch import scratch
from override_gap.probes.store.folder import RunError, Store
from override_gap.probes.store.run_store import Rows, RunStore
from override_gap.probes.store.sealed_json import SEALED_FILES

ALWAYS_WRITTEN = ("layers", "readings")
"""Tables that every unit has."""
ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}
"""Protocols under which an object appears only once it is written whole."""


def store_at(place: Path | str) -> RunStore:
    """The store of a run at a path or URL. Raises RunError for a URL without a path."""
    if isinstance(place, Path) or "://" not in place:
        return Store(Path(place))
    if not place.split("://", 1)[1].strip("/"):
        raise RunError(f"{place}: no bucket or path; --out needs a URL such as s3://bucket/run")
    if place.startswith("file://"):
        return Store(_file_at(place))
    return Remote(place.rstrip("/"))


def _file_at(url: str) -> Path:
    """The path of a file:// URL, which may name this machine as `localhost` (RFC 8089), and may be relative as a path may."""
    path = url.removeprefix("file://")
    return Path(path.removeprefix("localhost") if path.startswith("localhost/") else path)


@dataclass
class Remote:
    """A run at a URL. A `Store` writes its files in a temporary folder, from where they are uploaded, the readings last.

    Not frozen, because it keeps its connection and the list of units that it found when it first looked.
    """

    url: str

    @cached_property
    def _connection(self) -> tuple[Any, str]:
        """The file system and the path in it."""
        return filesystem(self.url)

    @cached_property
    def _units(self) -> frozenset[str]:
        """The units that were there at the first look: one listing per table, not two requests per unit."""
        files, root = self._connection
        layers, readings = ({Path(name).stem for name in _listed(files, f"{root}/{t}")} for t in ALWAYS_WRITTEN)
        return frozenset(layers & readings)

    def __getstate__(self) -> dict[str, Any]:
        """The URL alone: each worker opens its own connection."""
        return {"url": self.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.url = state["url"]

    def open(self, manifest: Mapping[str, Any], identity: str) -> Mapping[str, Any]:
        """Create the run at the URL, or resume the one that is there; see `Store.open`."""
        files, root = self._connection
        with scratch() as staging:
            staged = Path(staging) / "run"
            try:
                resumed = files.exists(f"{root}/manifest.json")
                if not resumed and _listed(files, root):
                    raise RunError(f"{redacted(self.url)} is not empty and holds no run; give --out a new URL")
                if resumed:
                    staged.mkdir()
                    files.get_file(f"{root}/manifest.json", str(staged / "manifest.json"))
                before = Store(staged).open(manifest, identity)
                if not resumed:
                    self._upload(staged, ["manifest.json"])
            except OSError as fault:
                raise RunError(f"{redacted(self.url)}: cannot be written: {_line(fault)}") from fault
        return before

    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands. Raises RunError where it is missing or damaged."""
        files, root = self._connection
        with scratch() as staging:
            try:
                files.get_file(f"{root}/manifest.json", f"{staging}/manifest.json")
            except OSError as fault:
                raise RunError(f"{redacted(self.url)}/manifest.json: cannot be read: {_line(fault)}") from fault
            return Store(Path(staging)).manifest()

    def exists(self) -> bool:
        """Whether a run is there."""
        files, root = self._connection
        return bool(files.exists(f"{root}/manifest.json"))

    def __str__(self) -> str:
        return redacted(self.url)

    def require_room(self, needed: int = 0) -> None:
        """No check: an object store that cannot be written fails in `open`, and it does not tell how much room it has."""

    @contextmanager
    def locked(self) -> Iterator[str | None]:
        """No lock: object stores offer none that ends safely with its process. Give each run a URL of its own."""
        yield None

    def keys(self) -> list[str]:
        """The units that were there at this object's first look."""
        return sorted(self._units)

    def pending(self, keys: Sequence[str]) -> tuple[list[str], list[str]]:
        """Which of these units are to be measured: those not there at the first look. Checksums are compared on reading."""
        return [key for key in keys if key not in self._units], []

    def write_unit(
        self,
        key: str,
        readings: Rows,
        layers: Rows,
        faults: int = 0,
        tables: Mapping[str, Rows] | None = None,
        identity: str | None = None,
    ) -> None:
        """Write a unit's tables to a temporary folder, then upload them, the readings last."""
        with scratch() as staging:
            staged = Path(staging)
            for table in ALWAYS_WRITTEN:
                (staged / table).mkdir()
            Store(staged).write_unit(key, readings, layers, faults, tables, identity)
            written = [str(file.relative_to(staged)) for file in sorted(staged.rglob("*")) if file.is_file()]
            self._upload(staged, sorted(written, key=lambda name: name.startswith("readings/")))

    def seals(self, keys: Sequence[str]) -> dict[str, dict[str, str]]:
        """What a complete run's manifest says of its files; each unit's readings are fetched for it."""
        files, root = self._connection
        units: dict[str, str] = {}
        sealed: dict[str, str] = {}
        with scratch() as staging:
            copy = Store(Path(staging))
            (copy.path / "readings").mkdir()
            for key in keys:
                name = f"readings/{key}.parquet"
                files.get_file(f"{root}/{name}", str(copy.path / name))
                units |= copy.seals([key])["units"]
                (copy.path / name).unlink()
        for name in SEALED_FILES[1:]:
            content = self.read_json(name)
            sealed |= {name: content["checksum"]} if content and "checksum" in content else {}
        return {"units": units, "files": sealed}

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run, or None where it is missing or no JSON object."""
        files, root = self._connection
        with scratch() as staging:
            try:
                files.get_file(f"{root}/{name}", f"{staging}/{name}")
            except FileNotFoundError:
                return None
            except OSError as fault:
                raise RunError(f"{redacted(self.url)}/{name}: cannot be read: {_line(fault)}") from fault
            return Store(Path(staging)).read_json(name)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file of the run, whole or not at all."""
        with scratch() as staging:
            Store(Path(staging)).write_json(name, content)
            self._upload(Path(staging), [name])

    @contextmanager
    def local_copy(self) -> Iterator[Path]:
        """A copy of the run on this machine; files that were changed or added are uploaded at the end."""
        files, root = self._connection
        with scratch() as copied:
            folder = Path(copied) / root.rsplit("/", 1)[-1]
            self.manifest()
            for name in files.find(root):
                inside = PurePosixPath(str(name).lstrip("/").removeprefix(f"{root.lstrip('/')}/"))
                if ".." in inside.parts or "\\" in str(inside) or "\0" in str(inside):
                    raise RunError(
                        f"{self}: holds a file named {str(inside)[:80]!r}, which would be written outside its copy here"
                    )
                target = folder / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                files.get_file(name, str(target))
            before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
            try:
                yield folder
            except RunError as fault:  # the copy is gone when this is read
                if str(folder) not in str(fault):
                    raise
                advice = "doctor takes a folder: copy the run here first"
                raise RunError(f"{str(fault).replace(str(folder), str(self))}; {advice}") from fault
            changed = [f for f in sorted(folder.rglob("*")) if f.is_file() and before.get(f) != f.stat().st_mtime_ns]
            self._upload(folder, [str(file.relative_to(folder)) for file in changed])

    def _upload(self, folder: Path, names: list[str]) -> None:
        """Upload files, each whole or not at all. Raises RunError, which names the file, where the URL does not take it."""
        files, root = self._connection
        for name in names:
            target = f"{root}/{name}"
            try:
                files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                if self.url.split("://")[0] in ATOMIC:
                    files.put_file(str(folder / name), target)
                else:
                    _put_and_rename(files, folder / name, target)
            except OSError as fault:
                raise RunError(
                    f"{redacted(self.url)}/{name}: cannot be written: {_line(fault)}; what was uploaded is kept: give the same "
                    "command again"
                ) from fault


def _put_and_rename(files: Any, file: Path, target: str) -> None:
    """Upload under a name of its own first; where that fails it is removed, as far as the connection still allows."""
    folder, _, name = target.rpartition("/")
    temporary = f"{folder}/.{name}.{os.getpid()}.tmp"
    try:
        files.put_file(str(file), temporary)
        files.mv(temporary, target)
    except BaseException:
        with contextlib.suppress(Exception):  # what stopped the upload is what is told
            files.rm_file(temporary)
        raise


def local_copy(place: Path | str) -> AbstractContextManager[Path]:
    """A run as a folder of this machine: itself, or a copy whose report and figures are uploaded to the URL at the end."""
    return store_at(place).local_copy()


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it: fsspec's own for this protocol, else Arrow's. Raises RunError.

    Arrow reads its endpoint from the URL's query (`?endpoint_override=`) or from AWS_ENDPOINT_URL.
    """
    import fsspec

    try:
        try:
            files, path = fsspec.core.url_to_fs(url)
        except ImportError:  # s3fs or gcsfs is not installed; Arrow has both built in
            from fsspec.implementations.arrow import ArrowFSWrapper
            from pyarrow.fs import FileSystem

            arrow_files, path = FileSystem.from_uri(url)
            files = ArrowFSWrapper(arrow_files)
    except (ValueError, ImportError, OSError) as fault:
        raise RunError(f"{redacted(url)}: cannot be opened as a run folder: {_line(fault)}") from fault
    return files, path.rstrip("/")


def redacted(url: str) -> str:
    """A URL without the key, secret and query that it may contain."""
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0])


def _listed(files: Any, path: str) -> list[str]:
    try:
        files.invalidate_cache()
        return [str(name) for name in files.ls(path, detail=False)]
    except FileNotFoundError:
        return []


def _line(fault: BaseException) -> str:
    return " ".join(str(fault).split())[:240]
