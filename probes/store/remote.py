"""Run folders elsewhere: s3://, gs:// and whatever else fsspec opens, with the tables that a folder here would hold."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from override_gap.probes.store.folder import RunError, Store
from override_gap.probes.store.run_store import Rows, RunStore

TABLES = ("layers", "readings")
WHOLE_OR_NOT_AT_ALL = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}
"""Protocols under which an object that is being written cannot be seen."""


def store_at(place: Path | str) -> RunStore:
    """The run folder at a path, or at a URL. Raises RunError for a URL that nothing here can open."""
    if isinstance(place, Path) or "://" not in place:
        return Store(Path(place))
    if not place.split("://", 1)[1].strip("/"):
        raise RunError(f"{place}: names no place; --out needs a URL such as s3://bucket/run")
    if place.startswith("file://"):
        return Store(Path(place.removeprefix("file://")))
    return Remote(place.rstrip("/"))


@dataclass(frozen=True)
class Remote:
    """A run folder at a URL. What a `Store` writes in a folder here is put there, the readings last."""

    url: str

    @cached_property
    def _place(self) -> tuple[Any, str]:
        return filesystem(self.url)

    @cached_property
    def _found(self) -> frozenset[str]:
        """The units that were there when first asked: one listing, not two requests a unit."""
        files, root = self._place
        held = [{Path(name).stem for name in _listed(files, f"{root}/{table}")} for table in TABLES]
        return frozenset(held[0] & held[1])

    def __getstate__(self) -> dict[str, Any]:
        """The URL alone: a worker opens its own connection."""
        return {"url": self.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "url", state["url"])

    def open(self, manifest: Mapping[str, Any], identity: str) -> Mapping[str, Any]:
        """Take up the run at the URL or begin one; see `Store.open`."""
        files, root = self._place
        with tempfile.TemporaryDirectory() as scratch:
            staged = Path(scratch) / "run"
            try:
                begun = files.exists(f"{root}/manifest.json")
                if not begun and _listed(files, root):
                    raise RunError(f"{redacted(self.url)} is not empty and holds no run; give --out a new place")
                if begun:
                    staged.mkdir()
                    files.get_file(f"{root}/manifest.json", str(staged / "manifest.json"))
                before = Store(staged).open(manifest, identity)
                if not begun:
                    self._put(staged, ["manifest.json"])
            except OSError as fault:
                raise RunError(f"{redacted(self.url)}: cannot be written: {_line(fault)}") from fault
        return before

    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands. Raises RunError where it is missing or damaged."""
        files, root = self._place
        with tempfile.TemporaryDirectory() as scratch:
            try:
                files.get_file(f"{root}/manifest.json", f"{scratch}/manifest.json")
            except OSError as fault:
                raise RunError(f"{redacted(self.url)}/manifest.json: cannot be read: {_line(fault)}") from fault
            return Store(Path(scratch)).manifest()

    def exists(self) -> bool:
        """Whether a run is there."""
        files, root = self._place
        return bool(files.exists(f"{root}/manifest.json"))

    def __str__(self) -> str:
        return redacted(self.url)

    def require_room(self, needed: int = 0) -> None:
        """A place elsewhere is found unwritable when it is opened; how much room it has is not asked."""

    @contextmanager
    def locked(self) -> Iterator[str | None]:
        """No lock: object stores offer none that outlives a process safely. Give each run a URL of its own."""
        yield None

    def keys(self) -> list[str]:
        """The units that were there when this store was first asked."""
        return sorted(self._found)

    def pending(self, keys: Sequence[str]) -> tuple[list[str], list[str]]:
        """Which of these units are to be measured; tables that are there are compared with their checksums when read."""
        return [key for key in keys if not self.done(key)], []

    def done(self, key: str) -> bool:
        """Whether both of a unit's tables were there when this store was first asked."""
        return key in self._found

    def write_unit(self, key: str, readings: Rows, layers: Rows, drawn: Rows = (), faults: int = 0) -> None:
        """Write a unit's tables here, then put them at the URL, the readings last."""
        with tempfile.TemporaryDirectory() as scratch:
            staged = Path(scratch)
            for table in TABLES:
                (staged / table).mkdir()
            Store(staged).write_unit(key, readings, layers, drawn, faults)
            written = [str(file.relative_to(staged)) for file in sorted(staged.rglob("*")) if file.is_file()]
            self._put(staged, sorted(written, key=lambda name: name.startswith("readings/")))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file of the run, whole or not at all."""
        with tempfile.TemporaryDirectory() as scratch:
            Store(Path(scratch)).write_json(name, content)
            self._put(Path(scratch), [name])

    @contextmanager
    def local_copy(self) -> Iterator[Path]:
        """A copy of the run on this machine; files that were changed or added are put back at the end."""
        files, root = self._place
        with tempfile.TemporaryDirectory() as copied:
            folder = Path(copied) / root.rsplit("/", 1)[-1]
            self.manifest()
            for name in files.find(root):
                target = folder / str(name).lstrip("/").removeprefix(f"{root.lstrip('/')}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                files.get_file(name, str(target))
            before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
            yield folder
            changed = [f for f in sorted(folder.rglob("*")) if f.is_file() and before.get(f) != f.stat().st_mtime_ns]
            self._put(folder, [str(file.relative_to(folder)) for file in changed])

    def _put(self, folder: Path, names: list[str]) -> None:
        files, root = self._place
        for name in names:
            target = f"{root}/{name}"
            files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            if self.url.split("://")[0] in WHOLE_OR_NOT_AT_ALL:
                files.put_file(str(folder / name), target)
            else:
                files.put_file(str(folder / name), f"{target}.tmp")
                files.mv(f"{target}.tmp", target)


def local_copy(place: Path | str) -> AbstractContextManager[Path]:
    """A run as a folder of this machine: itself, or a copy whose report and figures go back to the URL at the end."""
    return store_at(place).local_copy()


def filesystem(url: str) -> tuple[Any, str]:
    """An fsspec file system and the path in it: fsspec's own for this protocol, else Arrow's. Raises RunError.

    Arrow reads its endpoint from the URL's query (`?endpoint_override=`) or from AWS_ENDPOINT_URL.
    """
    import fsspec

    try:
        try:
            files, path = fsspec.core.url_to_fs(url)
        except ImportError:  # s3fs or gcsfs is not installed; Arrow has both built in
            from fsspec.implementations.arrow import ArrowFSWrapper
            from pyarrow.fs import FileSystem

            inner, path = FileSystem.from_uri(url)
            files = ArrowFSWrapper(inner)
    except (ValueError, ImportError, OSError) as fault:
        raise RunError(f"{redacted(url)}: cannot be opened as a run folder: {_line(fault)}") from fault
    return files, path.rstrip("/")


def redacted(url: str) -> str:
    """A URL without the key, secret and query that it may hold."""
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0])


def _listed(files: Any, path: str) -> list[str]:
    try:
        files.invalidate_cache()
        return [str(name) for name in files.ls(path, detail=False)]
    except FileNotFoundError:
        return []


def _line(fault: BaseException) -> str:
    return " ".join(str(fault).split())[:240]
