"""A map from documents to adapters: which folder or entry belongs to a document key, an item id or a knowledge point."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from override_gap.margins.items.item import Document
from override_gap.margins.strict_json import LARGEST, parse
from override_gap.margins.text import plural
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.files import names_for

HEADS = ("path", "adapter", "folder", "entry")
"""A first row of a CSV file whose second cell is one of these words is its head."""


@dataclass(frozen=True)
class AdapterMap:
    """What `--adapter-map` says: path within the folder (or entry of the file) by document key, item id or knowledge point."""

    file: Path
    rows: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """SHA-256 of the rows, in whatever form and order they were written."""
        return hashlib.sha256(json.dumps(dict(self.rows), sort_keys=True).encode()).hexdigest()

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths, each once."""
        return tuple(sorted(set(self.rows.values())))

    def matches(self, document: Document) -> list[str]:
        """The paths of a document by the best kind of name that the map has: its key, else its ids, else its points."""
        for names in names_for(document):
            found = sorted({self.rows[name] for name in names if name in self.rows})
            if found:
                return found
        return []

    def notes_on(self, documents: Sequence[Document]) -> list[str]:
        """What of the map these documents do not use."""
        used = {name for document in documents for names in names_for(document) for name in names}
        idle = sorted(self.rows.keys() - used)
        if not idle:
            return []
        return [
            f"{self.file}: {len(idle)} of {plural(len(self.rows), 'row')} "
            f"{'is' if len(idle) == 1 else 'are'} for no document of these items ({', '.join(idle[:3])}"
            f"{', ...' if len(idle) > 3 else ''})"
        ]


def read_map(file: Path) -> AdapterMap:
    """Read a map: a JSON object, or CSV of two columns.

    Raises AdapterError for anything else, and for a path that leaves the folder.
    """
    try:
        if file.stat().st_size > LARGEST:
            raise AdapterError(f"--adapter-map {file}: {file.stat().st_size:,} bytes; a map has at most {LARGEST:,}")
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as fault:
        raise AdapterError(f"--adapter-map {file}: not UTF-8 (byte {fault.start + 1}); save it as UTF-8") from fault
    except OSError as fault:
        raise AdapterError(f"--adapter-map {file}: cannot be read: {fault.strerror or fault}") from fault
    rows = _from_json(file, text) if text.lstrip().startswith(("{", "[")) else _from_csv(file, text)
    if not rows:
        raise AdapterError(
            f"--adapter-map {file}: it has no rows; need a document key, item id or knowledge point and a path"
        )
    return AdapterMap(file, {name: _inside(file, name, path) for name, path in rows.items()})


def _from_json(file: Path, text: str) -> dict[str, str]:
    try:
        rows: Any = parse(text)
    except ValueError as fault:
        raise AdapterError(f"--adapter-map {file}: cannot be read as JSON: {fault}") from fault
    if not isinstance(rows, dict) or not all(isinstance(path, str) for path in rows.values()):
        raise AdapterError(
            f"--adapter-map {file}: need one JSON object from a document key, item id or knowledge point to a path as text"
        )
    return rows


def _from_csv(file: Path, text: str) -> dict[str, str]:
    rows: dict[str, str] = {}
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text), strict=True), 1):
            cells = [cell.strip() for cell in cells]
            if not any(cells) or (number == 1 and len(cells) == 2 and cells[1].lower() in HEADS):
                continue
            if len(cells) != 2:
                raise AdapterError(
                    f"--adapter-map {file}: row {number} has {plural(len(cells), 'cell')}; need two, a document key, item id or "
                    f"knowledge point and a path{_other_separator(cells)}"
                )
            if cells[0] in rows:
                raise AdapterError(f"--adapter-map {file}: row {number}: {cells[0][:80]!r} is given twice")
            rows[cells[0]] = cells[1]
    except csv.Error as fault:
        raise AdapterError(f"--adapter-map {file}: cannot be read as CSV: {fault}") from fault
    return rows


def _other_separator(cells: Sequence[str]) -> str:
    """Advice where a row's one cell looks like two that something else than a comma separates."""
    found = next((name for mark, name in ((";", "semicolons"), ("\t", "tabs")) if mark in cells[0]), None)
    return f", with a comma between them, not {found}" if found and len(cells) == 1 else ""


def _inside(file: Path, name: str, path: str) -> str:
    """The path in one form. Raises AdapterError where it is empty or leads out of the folder."""
    parts = PurePosixPath(path).parts
    outside = PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive or "\\" in path or ".." in parts
    if not path.strip() or outside or "\0" in path or not name:
        raise AdapterError(
            f"--adapter-map {file}: {name[:80]!r} has path {path[:80]!r}; need one relative to the adapters' folder and "
            "inside it, with / between folders"
        )
    return PurePosixPath(path).as_posix()
