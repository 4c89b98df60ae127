"""A progress bar on stderr, with rate and time left; plain lines where stderr is not a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

from override_gap.margins.text import one_line
from override_gap.reports.cli._say import say


class ProgressBar:
    """A context manager to be called with (done, in all, what is being done), counted in `unit`; silent with `quiet`."""

    def __init__(self, *, quiet: bool = False, unit: str = "items") -> None:
        self.unit = unit
        self.quiet, self._bar, self._task, self._started = quiet, None, None, time.monotonic()
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> ProgressBar:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn(f"{self.unit},"),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("elapsed,"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=Console(stderr=True),
            )
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, what: str) -> None:
        what = one_line(what)
        elapsed = time.monotonic() - self._started
        # what an earlier run has done, and the time before anything is done, do not count towards the rate
        if self._first is None:
            self._first = done, self._started
        elif done == self._first[0]:
            self._first = done, time.monotonic()
        new, seconds = done - self._first[0], time.monotonic() - self._first[1]
        per_second = new / seconds if seconds > 0 else 0.0
        shown = f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"
        rate = f"{shown} per second" if new else ""
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(what, total=total, rate="")
            self._bar.update(self._task, completed=done, description=what, rate=rate and f"{rate},")
        elif not self.quiet:
            left = f", about {(total - done) / per_second:.0f} s left" if new and done < total else ""
            rate = f", {rate}" if rate else ""
            say(f"{what}: {done} of {total} {self.unit}{rate}, {elapsed:.0f} s{left}", error=True)
