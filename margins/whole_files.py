"""Files and folders written whole or not at all, and what processes that were killed left beside them.

What is written has a name of its own first, `.NAME.PID.tmp` beside the target: flushed to disk, then renamed, then its folder is
flushed. A reader sees the old content or the new one; so does whoever comes after a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from override_gap.margins.temporaries import leftovers, leftovers_of, named, remove, remove_abandoned, temporary_beside

__all__ = [
    "DISK_FULL",
    "WriteError",
    "leftovers",
    "leftovers_of",
    "make_folder",
    "move",
    "remove_abandoned",
    "sync_folder",
    "temporary_beside",
    "whole_folder",
    "write_bytes",
    "write_text",
    "write_whole",
]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# what disks say that cannot flush a folder or file (some network and user-space file systems); every other error is one
_NO_FLUSHING = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
_REMEDIES = {
    errno.ENOSPC: "make room, or write to another disk",
    errno.EDQUOT: "make room within your quota, or write to another disk",
    errno.EFBIG: "the disk or a limit (ulimit -f) allows no larger file; write to another disk",
    errno.EACCES: "make it writable, or write to another folder",
    errno.EPERM: "make it writable, or write to another folder",
    errno.EROFS: "write to another disk",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "make its folder first",
    errno.ELOOP: "give the folder that it leads to, or a new name",
}


class WriteError(OSError):
    """A file or folder that could not be written; the message names it, the reason and what to do."""

    def __str__(self) -> str:
        remedy = _REMEDIES.get(self.errno or 0, "write to another folder or disk")
        return f"{self.filename}: cannot be written: {self.strerror}; {remedy}"


def write_whole(target: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside the target, flush it, rename it, flush the folder; returns the target.

    The new file has the permissions of the one that it replaces, else those that umask gives, whatever `write` did. A target that
    is a device or a pipe (/dev/stdout) is written as it is. Raises WriteError where the disk does not take it; the target is then
    what it was, and the temporary is gone.
    """
    target = Path(target)
    with as_write_error(target, target):
        if is_stream(target):
            write(target)
            return target
    with as_write_error(target, target):
        temporary = temporary_beside(target)
    try:
        with as_write_error(target, temporary):
            # made here and not through a link that somebody laid; its mode is that of umask and the folder's own rules
            temporary.unlink(missing_ok=True)
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            mode = (target if target.exists() else temporary).stat().st_mode & 0o777
            write(temporary)
            if temporary.stat().st_mode & 0o777 != mode:
                temporary.chmod(mode)
            _flush_file(temporary)
            temporary.replace(target)
            sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):  # what stopped the writing is what is told
            temporary.unlink(missing_ok=True)
    return target


def write_text(target: Path, text: str) -> Path:
    """Write a text whole or not at all, as UTF-8 with the line ends that it has; returns the target. Raises WriteError."""
    return write_bytes(target, text.encode("utf-8"))


def write_bytes(target: Path, content: bytes) -> Path:
    """Write bytes whole or not at all; returns the target. Raises WriteError."""
    return write_whole(target, lambda file: file.write_bytes(content))


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target, which becomes the target at the end of the block; removed where it raises.

    At the end every file and folder in it is flushed, all get the modes that umask gives, it is renamed and the folder above is
    flushed. The target must not exist, or be an empty folder and no link to one; what processes that were killed left of it is
    removed first. Raises WriteError where the disk does not take it.
    """
    target = named(Path(target))
    with as_write_error(target, target):
        temporary = temporary_beside(target)
    try:
        with as_write_error(target, temporary):
            if (
                target.is_symlink()
            ):  # no folder can be renamed to it, and replaced it would not be on the disk that it leads to
                raise OSError(errno.ELOOP, "it is a symbolic link", str(target))
            remove_abandoned(leftovers_of(target))
            temporary.mkdir()
            modes = _modes_within(temporary)
        with as_write_error(target, temporary, only_within=True):
            yield temporary
        with as_write_error(target, temporary):
            _flush_tree(temporary, modes)
            if os.name != "posix" and target.is_dir():
                target.rmdir()  # elsewhere no folder is renamed to one that is there
            temporary.replace(target)
            sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            remove(temporary)


def is_stream(target: Path) -> bool:
    """Whether a path is a device, a pipe or an open file of this process (/dev/stdout): written as it is, never renamed to."""
    if target.is_symlink() and (parent := os.path.realpath(target.parent)) != os.path.realpath("/dev/shm"):
        return parent == "/dev" or parent.startswith("/proc/")
    return target.exists() and not target.is_file() and not target.is_dir()


def make_folder(folder: Path) -> Path:
    """Make a folder with those above it, each flushed into the one that holds it, as is one that is there; returns it.

    Raises WriteError.
    """
    folder = Path(folder)
    absolute = folder.absolute()
    with as_write_error(folder, folder):
        new = [each for each in (absolute, *absolute.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in reversed(new):
            sync_folder(each.parent)
        if not new:  # a process may have been killed between making it and flushing it
            with contextlib.suppress(OSError):
                sync_folder(absolute.parent)
    return folder


def move(path: Path, target: Path) -> Path:
    """Rename a file or folder and flush both folders; returns the target. Raises WriteError."""
    with as_write_error(target, target):
        path.replace(target)
        sync_folder(target.parent)
        if path.parent != target.parent:
            sync_folder(path.parent)
    return target


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries to disk; where a system opens no folders (Windows) it keeps them itself."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _flush(handle)
    finally:
        os.close(handle)


@contextmanager
def as_write_error(target: Path, temporary: Path, *, only_within: bool = False) -> Iterator[None]:
    """Errors of the disk as WriteError of the target; `only_within`: a full disk, and those that name a file of the temporary."""
    try:
        yield
    except WriteError as fault:
        if not _is_within(fault.filename, temporary):
            raise
        raise WriteError(fault.errno, fault.strerror, str(target)) from fault
    except Exception as fault:
        code = _errno_of(fault)
        if code is None and not (isinstance(fault, OSError) and not only_within):
            raise
        if only_within and code not in DISK_FULL and not _is_within(getattr(fault, "filename", None), temporary):
            raise
        own = fault.strerror if isinstance(fault, OSError) and fault.errno == code else None
        reason = str(fault) if code is None else own or os.strerror(code)
        raise WriteError(code or 0, reason, str(target)) from fault


def _is_within(name: object, folder: Path) -> bool:
    return isinstance(name, str | os.PathLike) and Path(name).is_relative_to(folder)


def _errno_of(fault: Exception) -> int | None:
    """The system's number of an error: OSError's own, or that in the text of a library that has an exception of its own."""
    if isinstance(fault, OSError) and fault.errno:
        return fault.errno
    match = re.search(r"\(os error ([0-9]{1,4})\)", str(fault))  # as safetensors says it
    return int(match[1]) if match else None


def _modes_within(folder: Path) -> tuple[int, int]:
    """The modes that umask and the folder's own rules give to a file and a folder made in it."""
    probe = folder / ".mode"
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    return mode, folder.stat().st_mode & 0o777


def _flush_tree(folder: Path, modes: tuple[int, int]) -> None:
    """Flush every file and folder, the folders after what is in them, and give all of them these modes (file, folder)."""
    for name, folders, files in os.walk(folder, topdown=False):
        here = Path(name)
        for file in files:
            if not (here / file).is_symlink():
                (here / file).chmod(modes[0])
                _flush_file(here / file)
        for each in folders:
            if not (here / each).is_symlink():
                (here / each).chmod(modes[1])
        sync_folder(here)


def _flush_file(file: Path) -> None:
    with file.open("rb+") as handle:
        _flush(handle.fileno())


def _flush(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as fault:
        if fault.errno not in _NO_FLUSHING:
            raise
