"""Files that could not be read although nothing is known to be wrong with them: no reason to move or measure anything again."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

_REMEDIES = {
    errno.EACCES: "make it readable",
    errno.EPERM: "make it readable",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "free memory, or use a machine with more",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount its disk again",
}


class ReadError(OSError):
    """A file that could not be read; the message names it, the reason and what to do. Nothing is moved because of it."""

    @property
    def says(self) -> str:
        """The reason, without the file."""
        return f"cannot be read: {self.strerror}"

    @property
    def remedy(self) -> str:
        """What to do."""
        cure = _REMEDIES.get(self.errno or 0, "make it readable")
        return f"{cure}, then give the same command again; nothing was moved"

    def __str__(self) -> str:
        return f"{self.filename}: {self.says}; {self.remedy}"


def read_error(file: Path, fault: BaseException, most: int | None = None) -> ReadError | None:
    """The error of the system or of the memory that kept a file from being read, or None where it is its content.

    A damaged file may make its reader ask for more than `most` bytes of memory, and Arrow names what it finds in one an OSError
    too: these are its content, unless the bytes themselves cannot be read.
    """
    if isinstance(fault, ReadError):
        return fault
    if isinstance(fault, MemoryError):
        asked = re.search(r"size (\d+)", str(fault))
        if most is not None and asked is not None and int(asked[1]) > most:
            return None
        return ReadError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(file))
    if not isinstance(fault, OSError) or file.is_dir():
        return None
    if fault.errno is not None:
        return ReadError(fault.errno, os.strerror(fault.errno), str(file))
    try:
        with file.open("rb") as opened:
            while opened.read(2**20):
                pass
    except OSError as raw:
        return ReadError(raw.errno or 0, raw.strerror or str(raw), str(file))
    return None


def names_in(folder: Path) -> list[str]:
    """The names of what is in a folder, sorted; none where it is missing or no folder. Raises ReadError."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as fault:
        raise ReadError(fault.errno or 0, fault.strerror or str(fault), str(folder)) from fault
