"""A progress bar on stderr, with rate and time left; lines instead of a bar where stderr is not a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any


class ProgressBar:
    """Called with (done, total, what). A `with` block; nothing is drawn with quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet, self._bar, self._task, self._started = quiet, None, None, time.monotonic()
        self._first: int | None = None

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
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("items,"),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("gone,"),
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
        gone = time.monotonic() - self._started
        # what an earlier run measured says nothing of this one's pace
        self._first = done if self._first is None else self._first
        new = done - self._first
        pace = new / gone if gone > 0 else 0.0
        rate = f"{pace:,.0f} a second," if pace >= 10 else f"{pace:.2g} a second," if new else ""
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(what, total=total, rate=rate)
            self._bar.update(self._task, completed=done, description=what, rate=rate)
        elif not self.quiet:
            left = f", about {(total - done) / pace:.0f} s left" if new and done < total else ""
            told = f", {rate.rstrip(',')}" if rate else ""
            print(f"{what}: {done} of {total} items{told}, {gone:.0f} s{left}", file=sys.stderr, flush=True)
