"""The lock of a run folder: one process at a time writes it, and a lock whose holder died is taken over."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from override_gap.margins.temporaries import process_runs
from override_gap.margins.whole_files import write_text
from override_gap.probes.store.files import DiskError

LOCK, OWNER = "lock", "owner.json"
BEAT_S, SILENT_S = 15.0, 120.0


class LockError(ValueError):
    """A run folder that another process is writing; the message names that process and says what to do."""


@contextmanager
def locked(folder: Path) -> Iterator[str | None]:
    """Lock a run folder; yields a sentence about a holder that died without releasing it, or None. Raises LockError.

    On one machine the kernel's lock decides: it ends with its process, however that ends. Machines that share a disk may not
    share the lock, so the holder also touches owner.json every BEAT_S; a holder on another machine that has not done so for
    SILENT_S, by the disk's own clock, counts as dead.
    """
    lock, kernel = FileLock(folder / LOCK, timeout=0), True
    try:
        lock.acquire()
    except Timeout as fault:
        raise LockError(f"{folder} is in use: {_describe(_read_owner(folder))}; {_WAIT}") from fault
    except NotImplementedError:
        kernel = False  # a disk without locks: owner.json decides
    except OSError as fault:
        raise DiskError(f"{folder}: cannot be written: {fault.strerror or fault}") from fault
    try:
        before = _read_owner(folder)
        if before is not None and _is_alive(folder, before, kernel=kernel):
            raise LockError(
                f"{folder} is in use: {_describe(before)}; {_WAIT}, or if that machine is gone, remove {folder / OWNER} "
                f"(after {SILENT_S:.0f} s of silence it is taken over)"
            )
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_text(folder / OWNER, json.dumps(holder) + "\n")
        with _touching(folder / OWNER):
            yield None if before is None else f"{_describe(before)} ended without finishing; its lock is taken over"
        (folder / OWNER).unlink(missing_ok=True)
    except LockError:
        raise
    except BaseException:
        # stopped by an error or Ctrl-C: this process knows that it is gone
        (folder / OWNER).unlink(missing_ok=True)
        raise
    finally:
        lock.release()


_WAIT = "wait for it, stop it, or give --out another folder"


def owner(folder: Path) -> str | None:
    """The process that holds a run folder, or died while it did, in words; None where there is none."""
    holder = _read_owner(folder)
    return None if holder is None else _describe(holder)


def _read_owner(folder: Path) -> dict[str, Any] | None:
    """What owner.json says; None without the file, empty where it cannot be read."""
    try:
        holder = json.loads((folder / OWNER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _describe(holder: Mapping[str, Any] | None) -> str:
    if not holder:
        return "an unknown process"
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"


def _is_alive(folder: Path, holder: Mapping[str, Any], *, kernel: bool) -> bool:
    """Whether the holder that owner.json names is still at work; `kernel`: the disk has locks, and this one was free."""
    if holder.get("host") == socket.gethostname():
        return not kernel and holder.get("pid") != os.getpid() and process_runs(holder.get("pid"))
    # the disk's clock, not this machine's: the two may differ by more than BEAT_S
    now = folder / f".clock.{os.getpid()}.tmp"
    try:
        now.touch()
        return bool(holder) and now.stat().st_mtime - (folder / OWNER).stat().st_mtime < SILENT_S
    finally:
        now.unlink(missing_ok=True)


@contextmanager
def _touching(file: Path) -> Iterator[None]:
    """Touch a file every BEAT_S for as long as the block runs."""
    stop = threading.Event()

    def touch() -> None:
        while not stop.wait(BEAT_S):
            try:
                os.utime(file)
            except FileNotFoundError:
                return  # removed by hand, by whoever takes over

    thread = threading.Thread(target=touch, name="override-gap lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
