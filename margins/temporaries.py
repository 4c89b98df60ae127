"""The temporary name under which a file or folder is written, and what processes that were killed left under such names."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

LONGEST_NAME = 255
"""Bytes that file systems allow for one name."""
CLOCK_S = 60.0
"""Seconds by which a clock may have been corrected while a process wrote."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>[0-9]{1,10})\.tmp", re.DOTALL)


def temporary_beside(target: Path) -> Path:
    """The name that a target has while this process writes it: `.NAME.PID.tmp`, NAME shortened where it would be too long.

    `.` and `..` are taken by the names that those folders have. Raises IsADirectoryError for `/`, beside which nothing is.
    """
    target, rest = named(target), f".{os.getpid()}.tmp"
    if not target.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    name, room = target.name, LONGEST_NAME - 1 - len(rest)
    if len(os.fsencode(name)) > room:
        name = os.fsencode(name)[:room].decode("utf-8", "ignore")
    return target.with_name(f".{name}{rest}")


def leftovers(folder: Path) -> list[Path]:
    """Temporary files and folders directly in a folder, whatever target they were for and whether they are still written."""
    if not folder.is_dir():
        return []
    return sorted(folder / name for name in os.listdir(folder) if _TEMPORARY.fullmatch(name))


def leftovers_of(target: Path) -> list[Path]:
    """The temporary files and folders of one target, beside it; none of `/`, nor where the folder above cannot be listed."""
    target = named(target)
    if not target.name:
        return []
    own = _TEMPORARY.fullmatch(temporary_beside(target).name)
    try:
        beside = leftovers(target.absolute().parent)
    except PermissionError:  # whoever may not list it may still work in the folder below
        return []
    found = ((path, _TEMPORARY.fullmatch(path.name)) for path in beside)
    return [target.with_name(path.name) for path, match in found if own and match and match["name"] == own["name"]]


def named(target: Path) -> Path:
    """A path that ends in a name: `.`, `..` and `/` are resolved, every other path is left as it was given."""
    return target.resolve() if target.name in ("", "..") else target


def is_abandoned(temporary: Path) -> bool:
    """Whether the process that a temporary's name gives is gone from this machine, or is this one and so not at it.

    A process that began after the temporary was last changed has only got the number of the one that wrote it.
    """
    match = _TEMPORARY.fullmatch(temporary.name)
    if match is None:
        return False
    pid = int(match["pid"])
    if pid == os.getpid() or not process_runs(pid):
        return True
    start = began(pid)
    try:
        return start is not None and start > temporary.lstat().st_mtime + CLOCK_S
    except FileNotFoundError:
        return False  # it is finished or removed by now


def remove_abandoned(found: list[Path]) -> list[Path]:
    """Remove those of these temporaries whose process is gone; returns them. Raises OSError."""
    gone = [path for path in found if is_abandoned(path)]
    for path in gone:
        remove(path)
    return gone


def process_runs(pid: object) -> bool:
    """Whether a process with this number runs on this machine; true where that cannot be asked (Windows)."""
    if not isinstance(pid, int) or not 0 < pid < 2**31:
        return False  # no process has such a number
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def began(pid: int) -> float | None:
    """When a process began, in seconds since the epoch; None where the system does not tell (it is no Linux)."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
        boot = re.search(r"^btime ([0-9]+)$", Path("/proc/stat").read_text(), re.MULTILINE)
    except (OSError, ValueError, IndexError):
        return None
    return None if boot is None else int(boot[1]) + ticks / os.sysconf("SC_CLK_TCK")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there; no link is followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
