"""Writing files whole or not at all, what killed processes left behind, and whether a disk has room for a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from override_gap.probes.store.schema import TABLES

# bytes per row on disk, about twice what audits wrote (benchmarks/scale.py measures them: 96 per reading, 22 per row of layers)
READING_BYTES, LAYER_BYTES, DRAWN_BYTES, SPARE_BYTES = 200, 40, 200, 8 * 2**20


class DiskError(ValueError):
    """A folder that cannot be written or has too little room; the message says what to do."""


def write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, flush to disk, rename, flush the folder, so that a half-written file is never read.

    Without the last step a power cut may undo the rename although the file's own bytes are safe.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries to disk; where a system opens no folders (Windows) it keeps them itself."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files that a killed process left in a run folder."""
    return sorted(file for name in ("", *TABLES) for file in (folder / name).glob(".*.tmp") if file.is_file())


def require_writable(folder: Path, needed: int = 0) -> None:
    """Raise DiskError unless a file can be written, flushed and removed in a folder, or where it will be created.

    `needed`: bytes that have to be free, SPARE_BYTES on top.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise DiskError(f"{existing} is a file; --out needs a folder")
    probe = existing / f".override-gap-{os.getpid()}.tmp"
    try:
        with probe.open("wb") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(existing).free
    except OSError as fault:
        raise DiskError(
            f"{folder}: cannot be written: {fault.strerror or fault}; make room or give --out another folder"
        ) from fault
    finally:
        if probe.exists():
            probe.unlink()
    if needed and free < needed + SPARE_BYTES:
        raise DiskError(
            f"{folder}: {_size(free)} are free and the readings will take about {_size(needed + SPARE_BYTES)}; make room, give "
            "--out another folder or ask for fewer items, policies or layers"
        )


def expected_bytes(items: int, conditions: int, layers: int, drawn: int = 0) -> int:
    """About how many bytes the tables of a run take on disk.

    `layers`: rows of layers per item and condition, 0 without them; `drawn`: drawn answers in all.
    """
    rows = items * conditions
    return rows * (READING_BYTES + layers * LAYER_BYTES) + drawn * DRAWN_BYTES


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
