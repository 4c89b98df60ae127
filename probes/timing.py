"""Where the time of an audit goes: seconds per part of the work, which sum to the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

#: The parts, in the order of an audit. `readings` is all that measuring a unit takes beyond the other parts.
PARTS = {
    "start": "imports, items and all that is in no other part",
    "subject": "opening the model and checking it",
    "adapters": "making, checking and stacking the adapters",
    "model": "forward passes and unembedding",
    "hooks": "the adapters' products, and reading the stream",
    "readings": "margins, gains, rows",
    "files": "reading and writing the run folder",
    "statistics": "the summary",
    "page": "figures and the page",
}


@dataclass(eq=False)
class TimingProfile:
    """Seconds per part. A part inside another stops the outer one's clock, so that the parts sum to the whole."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    running: list[str] = field(default_factory=list)
    clock: float = 0.0

    def enter(self, part: str) -> None:
        """From here on time counts for this part."""
        self._count()
        self.running.append(part)

    def leave(self) -> None:
        """From here on time counts for the outer part again."""
        self._count()
        self.running.pop()

    def _count(self) -> None:
        now = time.perf_counter()
        if self.running:
            self.seconds[self.running[-1]] += now - self.clock
        self.clock = now


_ACTIVE: ContextVar[TimingProfile | None] = ContextVar("profile", default=None)


@contextmanager
def profiled() -> Iterator[TimingProfile]:
    """Count the time of the block by part; time in no part counts for `start`."""
    profile = TimingProfile()
    token = _ACTIVE.set(profile)
    profile.enter("start")
    try:
        yield profile
    finally:
        profile.leave()
        _ACTIVE.reset(token)


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Count the block's time for this part, where a profile is being taken.

    On a GPU work is only queued here: its time counts where the result is next waited for.
    """
    profile = _ACTIVE.get()
    if profile is None:
        yield
        return
    profile.enter(part)
    try:
        yield
    finally:
        profile.leave()
