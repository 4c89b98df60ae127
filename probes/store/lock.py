"""Lock: one process at a time writes a run folder; who it is, and what became of one that is gone."""

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

from override_gap.probes.store.files import DiskError, write_whole

LOCK, OWNER = "lock", "owner.json"
BEAT_S, SILENT_S = 15.0, 120.0


class LockError(ValueError):
    """A run folder that another process writes; the message names it and says what to do."""


@contextmanager
def locked(folder: Path) -> Iterator[str | None]:
    """Hold a run folder; yields a sentence about the process that held it and died, or None. Raises LockError.

    On one machine the kernel's lock decides: it ends with its process, however that ends. Machines that share a disk may not
    share the lock, so the owner also touches its file every BEAT_S; one of another machine that was silent for SILENT_S,
    by the disk's own clock, is gone.
    """
    lock, kernel = FileLock(folder / LOCK, timeout=0), True
    try:
        lock.acquire()
    except Timeout as taken:
        raise LockError(f"{folder} is in use: {_who(_owner(folder))}; {_WAIT}") from taken
    except NotImplementedError:
        kernel = False  # a disk without locks: the owner's file decides
    except OSError as fault:
        raise DiskError(f"{folder}: cannot be written: {fault.strerror or fault}") from fault
    try:
        before = _owner(folder)
        if before is not None and _lives(folder, before, kernel=kernel):
            raise LockError(
                f"{folder} is in use: {_who(before)}; {_WAIT}, or if that machine is gone, remove {folder / OWNER} "
                f"(after {SILENT_S:.0f} s of silence it is taken over)"
            )
        mine = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_whole(folder / OWNER, lambda file: file.write_text(json.dumps(mine) + "\n", encoding="utf-8"))
        with _beating(folder / OWNER):
            yield None if before is None else f"{_who(before)} ended without finishing; its lock is taken over"
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
    """Who holds a run folder or held it when it died, in words; None where nobody does."""
    found = _owner(folder)
    return None if found is None else _who(found)


def _owner(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / OWNER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _who(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "a process that left no name"
    return f"process {found.get('pid')} on {found.get('host')}, since {found.get('since')}"


def _lives(folder: Path, found: Mapping[str, Any], *, kernel: bool) -> bool:
    """Whether the owner that a folder names still works, given that its kernel lock was free or there is none."""
    if found.get("host") == socket.gethostname():
        return not kernel and found.get("pid") != os.getpid() and _runs(found.get("pid"))
    # the disk's clock, not this machine's: the two may differ by more than a beat
    now = folder / f".clock.{os.getpid()}.tmp"
    try:
        now.touch()
        return bool(found) and now.stat().st_mtime - (folder / OWNER).stat().st_mtime < SILENT_S
    finally:
        now.unlink(missing_ok=True)


def _runs(pid: Any) -> bool:
    if not isinstance(pid, int) or not 0 < pid < 2**31:
        return False  # no process has such a number
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _beating(file: Path) -> Iterator[None]:
    """Touch a file every BEAT_S for as long as the block runs."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT_S):
            try:
                os.utime(file)
            except FileNotFoundError:
                return  # removed by hand: whoever did so has taken over

    thread = threading.Thread(target=beat, name="override-gap lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
