"""The lock of a run folder: one process at a time writes it, and a lock whose holder died is taken over."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from override_gap.margins.temporaries import CLOCK_S, began, process_runs, temporary_beside
from override_gap.margins.whole_files import write_text
from override_gap.probes.store.files import DiskError

LOCK, OWNER = "lock", "owner.json"
BEAT_S, SILENT_S = 15.0, 120.0
SETTLE_S, WATCHED = 0.5, 10
"""On a disk without locks: seconds until a claim is read again. Fifths of BEAT_S for which a file from the future is watched."""


class LockError(ValueError):
    """A run folder that another process is writing; the message names that process and says what to do."""


_held: dict[Path, dict[str, Any]] = {}
"""What this process holds: the content of owner.json by its folder. A dict for the process, as the kernel's locks are."""


@contextmanager
def locked(folder: Path) -> Iterator[str | None]:
    """Lock a run folder; yields a sentence about a holder that died without releasing it, or None. Raises LockError.

    On one machine the kernel's lock decides: it ends with its process, however that ends. Machines that share a disk may not
    share the lock, so the holder also touches owner.json every BEAT_S; a holder on another machine that has not done so for
    SILENT_S, by the disk's own clock, counts as dead. owner.json holds a random token: a holder that was taken over
    removes nothing at its end, and `require_held` stops it before it writes.
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
    key, mine = folder.resolve(), None
    try:
        before = _read_owner(folder)
        if before is not None and _is_alive(folder, before, kernel=kernel):
            raise LockError(
                f"{folder} is in use: {_describe(before)}; {_WAIT}, or if that machine is gone, remove {folder / OWNER} "
                f"(after {SILENT_S:.0f} s of silence it is taken over)"
            )
        mine = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "token": secrets.token_hex(16),
        }
        write_text(folder / OWNER, json.dumps(mine) + "\n")
        if not kernel:  # of several that came at once, the last to write it holds it
            time.sleep(SETTLE_S)
            if (now := _read_owner(folder)) != mine:
                raise LockError(f"{folder} is in use: {_describe(now)}; {_WAIT}")
        _held[key] = mine
        with _touching(folder, mine):
            yield None if before is None else f"{_describe(before)} ended without finishing; its lock is taken over"
    finally:
        # however it ends, this process knows that it is gone; the file of one that took over is not its own to remove
        if mine is not None and _held.get(key) == mine:
            del _held[key]
        if mine is not None and _read_owner(folder) == mine:
            (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def require_held(folder: Path) -> None:
    """Raise LockError where this process had locked a folder and another has taken it over since; asked before each writing.

    Without owner.json, which somebody removed, the holder states itself again.
    """
    holder = _held.get(folder.resolve())
    if holder is None:
        return
    now = _read_owner(folder)
    if now is None:  # one that came in between finds this at its own next writing
        write_text(folder / OWNER, json.dumps(holder) + "\n")
    elif now != holder:
        raise LockError(
            f"{folder} was taken over by {_describe(now)}, since this process was silent for {SILENT_S:.0f} s or its file was "
            "removed; it writes nothing more: let that one finish, or stop it and give the same command again"
        )


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
    if holder.get("token") in {held["token"] for held in _held.values()}:
        return True  # another thread of this process
    owner_file = folder / OWNER
    try:
        touched = owner_file.stat().st_mtime
        if holder.get("host") == socket.gethostname():
            pid = holder.get("pid")
            if kernel or pid == os.getpid() or not isinstance(pid, int) or not process_runs(pid):
                return False
            start = began(pid)
            # one that began later has only got the number of the dead one
            return start is None or start <= touched + CLOCK_S
        ago = _disk_clock(folder) - touched
        if ago > -SILENT_S:
            return bool(holder) and ago < SILENT_S
        # last touched in the future: the clock was set back, and how long ago that was is not known; a holder touches it again
        for _ in range(WATCHED):
            time.sleep(BEAT_S / 5)
            if owner_file.stat().st_mtime != touched:
                return True
    except FileNotFoundError:
        return False  # released meanwhile
    return False


def _disk_clock(folder: Path) -> float:
    """The time by the disk's clock, not this machine's: the two may differ by more than BEAT_S."""
    now = temporary_beside(folder / "clock")
    try:
        now.touch()
        return now.stat().st_mtime
    finally:
        now.unlink(missing_ok=True)


@contextmanager
def _touching(folder: Path, holder: Mapping[str, Any]) -> Iterator[None]:
    """Touch owner.json every BEAT_S for as long as the block runs and it names this holder."""
    stop = threading.Event()

    def touch() -> None:
        while not stop.wait(BEAT_S):
            if _read_owner(folder) == holder:
                with contextlib.suppress(FileNotFoundError):  # removed by hand, or by whoever takes over
                    os.utime(folder / OWNER)

    thread = threading.Thread(target=touch, name="override-gap lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
