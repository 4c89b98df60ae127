"""JSON files of a run that hold their own checksum, and are not read where it differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from override_gap.margins.strict_json import read_json
from override_gap.probes.store.checksum import checksum_matches
from override_gap.probes.store.unreadable import read_error

SEALED_FILES = ("manifest.json", "items.json")
"""What is read of a run besides its tables."""
LARGEST_JSON = 2**30
"""Bytes; items.json has every item's texts."""


STRAY = "it is not of this run, which was complete without one"


def sealed_file_error(file: Path, checksum: str | None = None, *, stray: bool = False) -> str | None:
    """What is wrong with a JSON file of a run, in words, or None; `checksum` is the one that it has to have.

    A file that is missing is wrong only where a checksum is known for it; with `stray` one that is there is. Raises ReadError.
    """
    if stray:
        return STRAY if file.exists() else None
    if checksum is None and not file.exists():
        return None
    try:
        read_sealed_json(file, checksum)
    except ValueError as fault:
        return str(fault).removeprefix(f"{file}: ")
    return None


def read_sealed_json(file: Path, checksum: str | None = None) -> dict[str, Any]:
    """The object in a JSON file of a run. Raises ReadError; ValueError where it is missing, none, or not what was written."""
    try:
        content = read_json(file, LARGEST_JSON)
    except (ValueError, MemoryError) as fault:
        unread = read_error(file, fault if fault.__cause__ is None else fault.__cause__)
        if unread is not None and not isinstance(fault.__cause__, FileNotFoundError):
            raise unread from fault
        raise
    if not isinstance(content, dict):
        raise ValueError(f"{file}: needs a JSON object, got a {type(content).__name__}")
    try:
        intact = checksum_matches(content)
    except ValueError as fault:  # half a surrogate pair in a text
        raise ValueError(f"{file}: cannot be read: {fault}") from fault
    if not intact:
        raise ValueError(f"{file}: its content is not what was written (the checksum differs)")
    if checksum is not None and content.get("checksum") != checksum:
        raise ValueError(f"{file}: it is not what this run had measured when it was complete")
    return content
