"""Profile: where the time of an audit goes, as parts that sum to the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

#: What time is filed under, in the order of an audit. `readings` is what a unit does beside the parts named here.
PARTS = {
    "start": "imports, items and what no other part claims",
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
    """Seconds a part. A part inside another stops the outer one's clock, so that the parts sum to the whole."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    inside: list[str] = field(default_factory=list)
    since: float = 0.0

    def enter(self, part: str) -> None:
        """From here on time is this part's."""
        self._file()
        self.inside.append(part)

    def leave(self) -> None:
        """Time is the outer part's again."""
        self._file()
        self.inside.pop()

    def _file(self) -> None:
        now = time.perf_counter()
        if self.inside:
            self.seconds[self.inside[-1]] += now - self.since
        self.since = now


_ACTIVE: ContextVar[TimingProfile | None] = ContextVar("profile", default=None)


@contextmanager
def profiled() -> Iterator[TimingProfile]:
    """File the time of the block; whatever no part claims is `start`."""
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
    """The block's time is this part's, where a profile is taken; otherwise nothing happens.

    On a GPU work is only handed over here: its time shows where the result is next waited for.
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
