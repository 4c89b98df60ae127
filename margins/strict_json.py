"""Strict JSON for untrusted input: every text gives a value or one kind of error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

LARGEST = 64 * 2**20
"""Bytes of a JSON file that is an index or a configuration; no real one is nearly as large."""
DEEPEST = 100
"""Levels of nesting. Python reads nearly 1000, but cannot write all of those again."""


class JSONError(ValueError):
    """Text that is not JSON, or JSON that is not accepted here; `at` is the character, -1 where there is no single one."""

    def __init__(self, message: str, at: int = -1) -> None:
        super().__init__(message)
        self.at = at


class AmbiguousJSON(ValueError):
    """JSON that the standard library reads although its meaning is not certain."""


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise AmbiguousJSON(f"key {key[:80]!r} is given twice in one object; which of the two is meant?")
        members[key] = value
    return members


def _constant(word: str) -> NoReturn:
    raise AmbiguousJSON(f"{word} is no JSON number")


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise AmbiguousJSON(f"{digits[:40]} is too large for a floating-point number")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_number)


def decode(text: str, at: int = 0) -> tuple[Any, int]:
    """The JSON value that begins at a character, and where it ends. Raises JSONError and nothing else.

    Rejects what the standard library accepts in silence: a key given twice (it keeps the last), NaN and Infinity. Python
    itself limits how long an integer may be.
    """
    try:
        value, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as fault:
        raise JSONError(fault.msg, fault.pos) from fault
    except RecursionError as fault:
        raise JSONError("nested too deeply", at) from fault
    except AmbiguousJSON as fault:
        raise JSONError(str(fault), at) from fault
    except ValueError as fault:  # an integer of more digits than Python converts
        raise JSONError(f"a number that cannot be read: {str(fault)[:80]}", at) from fault
    # a value with few brackets cannot be deep, which saves most values the walk
    if text.count("[", at, end) + text.count("{", at, end) > DEEPEST and _is_deeper(value, DEEPEST):
        raise JSONError("nested too deeply", at)
    return value, end


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested more than `levels` deep; level by level, since recursion would fail itself."""
    level = [value]
    for _ in range(levels + 1):
        containers = [each for each in level if isinstance(each, dict | list)]
        level = [inner for each in containers for inner in (each.values() if isinstance(each, dict) else each)]
    return any(isinstance(each, dict | list) for each in level)


def parse(text: str) -> Any:
    """The one JSON value in a text. Raises JSONError, also where more text follows it."""
    start = skip_space(text, 0)
    value, end = decode(text, start)
    end = skip_space(text, end)
    if end != len(text):
        raise JSONError("more text after the value", end)
    return value


def skip_space(text: str, at: int) -> int:
    """The index of the first character from `at` on that is not JSON white space."""
    while text[at : at + 1] in (" ", "\n", "\r", "\t"):
        at += 1
    return at


def read_json(file: Path, largest: int = LARGEST) -> Any:
    """The JSON value in a file. Raises ValueError, which names the file, whatever keeps it from being read."""
    try:
        size = file.stat().st_size
        if size > largest:
            raise JSONError(f"{size:,} bytes; such a file has at most {largest:,}")
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:  # JSONError and the error of another encoding are ValueErrors
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else fault
        raise ValueError(f"{file}: cannot be read as JSON: {reason}") from fault
