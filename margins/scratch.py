"""Folders for what is needed only while a command works: beside its output, or in the system's folder for temporary files.

Both have names that tell the process that made them, so that the next command can remove what one that was killed left.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from override_gap.margins.temporaries import leftovers_of, process_runs, remove, remove_abandoned, temporary_beside
from override_gap.margins.whole_files import as_write_error

_SCRATCH = re.compile(r"override-gap-(?P<pid>[0-9]{1,10})-\w+")


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A folder for this user alone under the temporary name of a target, removed at the end; the target is not made.

    It has to be gone before the target is written, which has the same temporary name. What processes that were killed left of
    the target is removed first. Raises WriteError where the disk does not take it.
    """
    with as_write_error(target, target):
        folder = temporary_beside(target)
        remove_abandoned(leftovers_of(target))
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # what stopped the work is what is told
            remove(folder)


def scratch() -> TemporaryDirectory[str]:
    """A folder `override-gap-PID-...` in the system's folder for temporary files, removed at the end of a `with` block.

    Those of this user's processes that are gone are removed first, once a process.
    """
    _remove_abandoned_in(tempfile.gettempdir())
    folder = TemporaryDirectory(prefix=f"override-gap-{os.getpid()}-")
    handle = _locked(folder.name)
    if handle is not None:  # the lock is held as long as the folder is used
        weakref.finalize(folder, os.close, handle)
    return folder


def scratch_left(folder: Path) -> list[Path]:
    """Folders in a folder for temporary files that processes of this user which are gone have left.

    Where the folder is shared with another machine or container, whose process numbers mean nothing here, the lock tells.
    A folder with nothing but logs was kept for its reader.
    """
    found = []
    for name in sorted(os.listdir(folder)):
        path, match = folder / name, _SCRATCH.fullmatch(name)
        if match is None or path.is_symlink() or process_runs(int(match["pid"])):
            continue
        with contextlib.suppress(OSError):  # another user's, or removed by now
            content = os.listdir(path)
            kept = content and all(each.endswith(".log") for each in content)
            if path.stat().st_uid == os.geteuid() and not kept and (handle := _locked(str(path))) is not None:
                os.close(handle)
                found.append(path)
    return found


@functools.cache
def _remove_abandoned_in(folder: str) -> None:
    if os.name != "posix":
        return
    for path in scratch_left(Path(folder)):
        with contextlib.suppress(OSError):  # another command removes it too
            remove(path)


def _locked(folder: str) -> int | None:
    """A handle of a folder with its lock; None where another process has it, or the disk has no locks."""
    if os.name != "posix":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
