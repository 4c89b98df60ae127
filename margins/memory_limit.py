"""A limit on the memory that a block may take, for readers whose files decide how much they ask for; and memory given back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def memory_limited(size: int) -> Iterator[bool]:
    """Inside the block whoever asks for more than `size` bytes beyond what is taken gets a MemoryError; on Linux alone.

    Yields whether this limit is the one that binds, so that such an error says something about what is read and not about the
    machine; False where the process has a lower one, or where no limit can be set.
    """
    try:
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        others = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min([taken + size, *others]), hard))
    except (ImportError, OSError, ValueError):
        yield False
        return
    try:
        yield all(taken + size < limit for limit in others)
    finally:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def give_back_freed() -> None:
    """Give memory that was freed back to the system: glibc keeps what lies between blocks that are in use; elsewhere nothing."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library, which has no such call
            ctypes.CDLL(None).malloc_trim(0)
