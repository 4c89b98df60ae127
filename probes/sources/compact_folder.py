"""A folder of compact files as one: what documents a header has no room for are in another file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.tensor_file import TensorFile

ALIKE = ("method", "base_fingerprint", "base", "template", "settings", "reads_questions", "policy")
"""What every file of a folder must say in the same way: they are one method's adapters for one model."""
MOST_FILES = 1000


@dataclass(frozen=True, eq=False)
class TensorFolder:
    """The tensors of several files, read from the file that has them; a name stands for one content in all of them."""

    path: Path
    files: Sequence[TensorFile]
    _holder: Mapping[str, TensorFile]

    @classmethod
    def of(cls, path: Path, files: Sequence[TensorFile]) -> TensorFolder:
        """The tensors of these files."""
        return cls(path, files, {name: file for file in reversed(files) for name in file.places})

    @property
    def sha256(self) -> str:
        """SHA-256 over the files' names and the hashes of their headers."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.path.name}\0{file.sha256}\0".encode())
        return digest.hexdigest()

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """These tensors, by name. Raises KeyError for one that no file has, AdapterError where a file has been cut short."""
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self._holder[name].path, []).append(name)
        tensors: dict[str, Tensor] = {}
        for file in self.files:
            if file.path in by_file:
                tensors |= file.read(by_file[file.path])
        return tensors

    def is_as_opened(self) -> bool:
        """Whether every file has the header that it had when it was opened."""
        return all(file.is_as_opened() for file in self.files)


def files_in(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by name, without hidden ones. Raises AdapterError where there is none, or too many."""
    files = sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("."))
    if not files:
        raise AdapterError(f"{folder}: no compact file (*.safetensors) lies in this folder")
    if len(files) > MOST_FILES:
        raise AdapterError(f"{folder}: {len(files):,} files; at most {MOST_FILES:,} are read as one")
    return files


def joined_index(folder: Path, indexes: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """The indexes of a folder's files as one. Raises AdapterError where they are not of one method, or share a document."""
    (first, told), *others = indexes.items()
    for file, index in others:
        unlike = [name for name in ALIKE if index.get(name) != told.get(name)]
        if unlike:
            raise AdapterError(
                f"{folder}: {first.name} and {file.name} differ in {', '.join(unlike)}; one folder holds one method's adapters "
                "for one model"
            )
    place: dict[str, Path] = {}
    for file, index in indexes.items():
        for entry in index["documents"]:
            if entry["key"] and place.setdefault(entry["key"], file) != file:
                raise AdapterError(
                    f"{folder}: document {entry['key']} is in {place[entry['key']].name} and in {file.name}; remove one of them"
                )
    lists = {
        name: [row for index in indexes.values() for row in index.get(name) or ()] for name in ("documents", "native")
    }
    return {**told, **lists}
