"""Limits on a chat template, which is a program of the model's author: how long it may compute, how much memory it may take."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType

from jinja2 import Environment

from override_gap.margins.memory_limit import memory_limited

SECONDS = 2.0
"""Of computing, not of waiting: a busy machine refuses nobody. A rendering takes well below a millisecond."""
BYTES = 2**30
LONGEST = 2**22
"""Characters of what a template writes beyond what it was given."""


class TemplateTooLong(RuntimeError):
    """A template that computes for more than SECONDS."""


@contextmanager
def limited(seconds: float | None = None, size: int | None = None) -> Iterator[None]:
    """Inside the block TemplateTooLong is raised after `seconds` of computing, MemoryError beyond `size` bytes more.

    The defaults are SECONDS and BYTES. Time is limited in a process's main thread, on systems with interval timers, memory
    on Linux; elsewhere nothing is.
    """
    with _seconds(SECONDS if seconds is None else seconds), memory_limited(BYTES if size is None else size):
        yield


@lru_cache(maxsize=64)
def has_powers(template: str) -> bool:
    """Whether a template raises a number to a power: one such step may take hours, and nothing can interrupt it.

    `f(**names)` raises nothing. Raises jinja2.TemplateSyntaxError.
    """
    tokens = [(kind, value) for _, kind, value in Environment().lex(template) if kind != "whitespace"]
    before = [("", ""), *tokens]
    return any(
        token == ("operator", "**") and previous not in (("operator", "("), ("operator", ","))
        for previous, token in zip(before, tokens, strict=False)
    )


def _stop(_: int, __: FrameType | None) -> None:
    raise TemplateTooLong


@contextmanager
def _seconds(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    handler = signal.signal(signal.SIGVTALRM, _stop)
    # again and again: an error within a finaliser is lost
    before = signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, *before)
        signal.signal(signal.SIGVTALRM, handler if handler is not None else signal.SIG_DFL)
