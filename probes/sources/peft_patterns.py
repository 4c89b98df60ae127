"""Patterns of a PEFT configuration, matched as PEFT does, within limits of their length, of what they repeat and of time."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import regex

from override_gap.probes.errors import AdapterError

CONFIG = "adapter_config.json"
SECONDS = 5
"""Limit in seconds of this thread's time: all patterns of one table, compiled and matched with all paths of a model."""
LONGEST = 50_000
"""Characters of one pattern. One that names every map of an 80-layer model in full has 20,000."""
LARGEST = 100_000
"""Elements of a pattern once its repeats are written out, as compiling does: `(ab){1000}` has 2000, `((a+b)+c)+` 20."""
PLAIN = re.compile(r"(?:[\w-]|\\?\.|\\-)*")
"""A pattern without groups and repeats: matching it takes time in proportion to its length."""


def by_pattern(patterns: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    """The value for a path by PEFT's rule for rank_pattern and alpha_pattern: keys are regular expressions of a path's end.

    Raises AdapterError for a key that is no regular expression, or that is over a limit.
    """
    if not patterns:
        return default
    key = _matcher(tuple(patterns)).first(path)
    return default if key is None else patterns[key]


class _Matcher:
    """The patterns of one table, compiled; what was matched with one path is kept, so that `SECONDS` is for distinct paths."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.spent = 0.0
        self.compiled: list[tuple[str, Any]] = []
        self.found: dict[str, str | None] = {}
        for pattern in patterns:
            start = time.thread_time()
            self.compiled.append((pattern, _compiled(pattern)))
            self._add_time(start, pattern)

    def first(self, path: str) -> str | None:
        """The first pattern that matches the path or its end behind a dot; None where none does."""
        if path not in self.found:
            self.found[path] = self._search(path)
        return self.found[path]

    def _search(self, path: str) -> str | None:
        for pattern, compiled in self.compiled:
            start = time.thread_time()
            if isinstance(compiled, re.Pattern):
                match = compiled.match(path)
            else:
                try:
                    match = compiled.match(path, timeout=max(SECONDS - self.spent, 0.001))
                except TimeoutError as fault:
                    raise _too_slow(pattern) from fault
            self._add_time(start, pattern)
            if match:
                return pattern
        return None

    def _add_time(self, start: float, pattern: str) -> None:
        self.spent += time.thread_time() - start
        if self.spent > SECONDS:
            raise _too_slow(pattern)


_matcher = lru_cache(maxsize=16)(_Matcher)


def _compiled(pattern: str) -> Any:
    """A pattern as an object with `match`, of the standard library where it is plain. Raises AdapterError."""
    if len(pattern) > LONGEST:
        raise AdapterError(
            f"{CONFIG}: a pattern of {len(pattern):,} characters ({pattern[:40]!r}...); need at most {LONGEST:,}: name the "
            "modules by the ends of their paths"
        )
    whole = rf"(.*\.)?({pattern})$"
    if PLAIN.fullmatch(pattern):
        return re.compile(whole)
    try:
        size = _expanded(re._parser.parse(whole))  # type: ignore[attr-defined]  # compiling is what has to wait for the size
        if size <= LARGEST:
            return regex.compile(whole)
    except (re.error, regex.error, OverflowError) as fault:
        raise AdapterError(f"{CONFIG}: pattern {pattern[:80]!r} is not a regular expression: {fault}") from fault
    except RecursionError as fault:
        raise AdapterError(f"{CONFIG}: pattern {pattern[:80]!r} is nested too deeply; simplify it") from fault
    raise AdapterError(
        f"{CONFIG}: pattern {pattern[:80]!r} has over {LARGEST:,} elements once its repeats are written out; simplify it"
    )


def _expanded(parsed: Any) -> int:
    """Elements of a pattern that was parsed by the standard library, its groups repeated as often as they must match, plus one.

    The module regex writes them out when it compiles: `(ab){9}` nine times, `(ab)+` twice.
    """
    size = 0
    for kind, value in parsed:
        inner = sum(_expanded(part) for part in _parts(value))
        least = value[0] if "REPEAT" in str(kind) else 0
        size += 1 + inner * (1 + least)
    return size


def _parts(value: Any) -> list[Any]:
    """The patterns within an element's value: of groups, alternatives, repeats and looks to either side."""
    if isinstance(value, re._parser.SubPattern):  # type: ignore[attr-defined]
        return [value]
    if isinstance(value, tuple | list):
        return [part for inner in value for part in _parts(inner)]
    return []


def _too_slow(pattern: str) -> AdapterError:
    return AdapterError(
        f"{CONFIG}: its patterns take over {SECONDS} s ({pattern[:80]!r} is among them); simplify it, or name the modules "
        "in full"
    )
