"""What killed processes left in a run folder, and whether a disk has room for a run; files are written by margins.whole_files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from override_gap.margins import whole_files
from override_gap.margins.whole_files import sync_folder, temporary_beside, write_whole
from override_gap.probes.store.schema import TABLES

__all__ = ["DiskError", "expected_bytes", "leftovers", "require_writable", "sync_folder", "write_whole"]

# bytes per row on disk, about twice what audits wrote (benchmarks/scale.py measures them: 96 per reading, 22 per row of layers)
READING_BYTES, LAYER_BYTES, DRAWN_BYTES, SPARE_BYTES = 200, 40, 200, 8 * 2**20


class DiskError(ValueError):
    """A folder that cannot be written or has too little room; the message says what to do."""


def leftovers(folder: Path) -> list[Path]:
    """Temporary files and folders that a killed process left in a run folder."""
    return sorted(path for name in ("", "figures", *TABLES) for path in whole_files.leftovers(folder / name))


def require_writable(folder: Path, needed: int = 0) -> None:
    """Raise DiskError unless a file can be written, flushed and removed in a folder, or where it will be created.

    `needed`: bytes that have to be free, SPARE_BYTES on top.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise DiskError(f"{existing} is a file; --out needs a folder")
    probe = temporary_beside(existing / "override-gap")
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
