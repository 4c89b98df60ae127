"""A folder of adapters at any depth: which folders hold one, the hashes of their files, and which belong to a document."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from override_gap.margins.items.item import Document
from override_gap.margins.text import plural
from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.sources import mlx
from override_gap.probes.sources.files import names_for
from override_gap.probes.sources.peft_config import CONFIG
from override_gap.probes.subject.file_checks import FileSizeError, require_memory

WEIGHTS = "adapter_model.safetensors"
FILES = (CONFIG, WEIGHTS, mlx.WEIGHTS)
"""The files that make an adapter: all that is read of a folder, and all that is hashed."""
MOST_FOLDERS = 200_000
"""Folders that are looked through; links that lead round in circles could make any number of them."""
DEEPEST = 32
"""Folders within one another that are looked through."""
HERE = "."
"""The name of the adapter that lies in the folder itself."""


@dataclass(frozen=True)
class AdapterTree:
    """The adapters at and below `path`: by relative path, with / between folders, the SHA-256 of each of its files.

    Where the folder itself is an adapter it is the only one, and nothing below an adapter's folder is looked at (trainers
    keep checkpoints there). Links to folders are followed; hidden folders are left out.
    """

    path: Path
    adapters: Mapping[str, Mapping[str, str]]

    @property
    def sha256(self) -> str:
        """SHA-256 over the names and hashes of all files."""
        digest = hashlib.sha256()
        for name, files in sorted(self.adapters.items()):
            for file, value in sorted(files.items()):
                digest.update(f"{name}/{file}\0{value}\0".encode())
        return digest.hexdigest()

    @property
    def is_one(self) -> bool:
        """Whether the folder itself is an adapter, which then serves every document."""
        return HERE in self.adapters

    def folder(self, name: str) -> Path:
        """Where an adapter lies."""
        return self.path if name == HERE else self.path / name

    def read(self, name: str) -> dict[str, bytes]:
        """The bytes of an adapter's files, which are those that were hashed. Raises AdapterChanged where they no longer are."""
        contents = read_files(self.folder(name))
        for file, value in self.adapters[name].items():
            if file not in contents or hashlib.sha256(contents[file]).hexdigest() != value:
                raise AdapterChanged(f"{self.folder(name) / file} has changed since it was opened")
        if extra := contents.keys() - self.adapters[name].keys():
            raise AdapterChanged(f"{self.folder(name) / min(extra)} was not there when the folder was opened")
        return contents

    def matches(self, document: Document) -> list[str]:
        """The adapters of a document by the best kind of name that matches: its key, else its items' ids, else their points.

        A name is that of the adapter's folder, with as many folders above it as the name has; where no adapter's path ends
        in it, that of folders above (`KEY/checkpoint-100`).
        """
        for names in names_for(document):
            for index in (self._by_end, self._by_middle):
                found = sorted({entry for name in names for entry in index.get(name, ())})
                if found:
                    return found
        return []

    @cached_property
    def _by_end(self) -> Mapping[str, list[str]]:
        return _index(self.adapters, lambda parts: (parts[n:] for n in range(len(parts))))

    @cached_property
    def _by_middle(self) -> Mapping[str, list[str]]:
        def above(parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
            return (parts[a:b] for a in range(len(parts)) for b in range(a + 1, len(parts)))

        return _index(self.adapters, above)


def _index(
    entries: Iterable[str], runs: Callable[[tuple[str, ...]], Iterable[tuple[str, ...]]]
) -> Mapping[str, list[str]]:
    index: dict[str, list[str]] = {}
    for entry in entries:
        for run in runs(PurePosixPath(entry).parts):
            index.setdefault("/".join(run), []).append(entry)
    return index


def read_files(folder: Path) -> dict[str, bytes]:
    """The bytes of an adapter's files, those of FILES that are there. Raises AdapterError where one cannot be read."""
    contents = {}
    for name in FILES:
        file = folder / name
        if file.is_file():
            try:
                require_memory(file)
                contents[name] = file.read_bytes()
            except (OSError, FileSizeError) as fault:
                raise AdapterError(f"{file}: cannot be read: {getattr(fault, 'strerror', None) or fault}") from fault
    return contents


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each of an adapter's files. Raises AdapterError where one cannot be read."""
    hashes = {}
    for name in FILES:
        file = folder / name
        if file.is_file():
            try:
                with file.open("rb") as stream:
                    hashes[name] = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as fault:
                raise AdapterError(f"{file}: cannot be read: {fault.strerror}") from fault
    return hashes


def scan(path: Path, named: Sequence[str] = ()) -> AdapterTree:
    """Find and hash the adapters at and below a folder, and those `named` by a map, wherever they lie in it.

    Raises AdapterError where there is none, saying what there is, and where a named one is not there or outside.
    """
    adapters: dict[str, Mapping[str, str]] = {}
    others: list[str] = []
    for folder, files in _walk(path):
        name = folder.relative_to(path).as_posix()
        if CONFIG in files:
            adapters[name] = hash_files(folder)
        else:
            others += [file if name == HERE else f"{name}/{file}" for file in files]
    for name in named:
        if name not in adapters:
            adapters[name] = _hash_named(path, name)
    if not adapters:
        raise AdapterError(f"{path}: no {CONFIG} here or in a folder below; {_found(path, sorted(others))}")
    return AdapterTree(path, adapters)


def _hash_named(path: Path, name: str) -> dict[str, str]:
    """The hashes of an adapter that a map names. Raises AdapterError where it is no adapter, or a link out of the folder."""
    folder = path / name
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(path)):
        raise AdapterError(f"{path}: --adapter-map names {name!r}, a link out of the folder")
    if not (folder / CONFIG).is_file():
        there = f"has no {CONFIG}" if folder.exists() else "is not there"
        raise AdapterError(f"{path}: --adapter-map names {name!r}, which {there}")
    return hash_files(folder)


def _walk(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders with their files, from the top; an adapter's folder is the end of its branch."""
    pending: list[tuple[Path, tuple[str, ...]]] = [(top, (os.path.realpath(top),))]
    seen = 0
    while pending:
        folder, above = pending.pop()
        seen += 1
        if seen > MOST_FOLDERS:
            raise AdapterError(f"{top}: over {MOST_FOLDERS:,} folders; give the one that holds the adapters")
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as fault:
            raise AdapterError(f"{folder}: cannot be read: {fault.strerror}") from fault
        files = [entry.name for entry in listed if entry.is_file()]
        yield folder, files
        if CONFIG in files:
            continue
        for entry in listed:
            if not entry.is_dir() or entry.name.startswith("."):
                continue
            real = os.path.realpath(entry.path)
            if len(above) > DEEPEST:
                raise AdapterError(f"{top}: folders {DEEPEST} deep; give the one that holds the adapters")
            if real not in above:  # a link to above has no end
                pending.append((folder / entry.name, (*above, real)))


def _found(path: Path, files: list[str]) -> str:
    """What a folder without an adapter holds, and what may be done about it."""
    if not files:
        return "it is empty"
    held = f"it holds {plural(len(files), 'file')}: {', '.join(files[:3])}{', ...' if len(files) > 3 else ''}"
    names = {PurePosixPath(file).name for file in files}
    if (path / "config.json").is_file():
        return f"{held} (a whole model's folder: its difference from the base is a dense: file)"
    if WEIGHTS in names or "adapter_model.bin" in names:
        return f"{held} (weights without their {CONFIG}, which states the scale: save both with save_pretrained)"
    if any(name.endswith(".safetensors") for name in names):
        return f"{held} (a file of adapters is named with its form: compact:FILE, dense:FILE; `override-gap list adapters`)"
    return held
