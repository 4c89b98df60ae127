"""JSON from strangers, read so that it ends in a value or in one kind of error, whatever is in it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

LARGEST = 64 * 2**20
"""Bytes of a JSON file that is a table of contents or a configuration; none in use comes near it."""
DEEPEST = 100
"""Levels of nesting. Python itself gives up near 1000, but then whoever writes the value again gives up before."""


class JSONError(ValueError):
    """Text that is no JSON or JSON that no reader here accepts; `at` is the character where, -1 if none can be named."""

    def __init__(self, message: str, at: int = -1) -> None:
        super().__init__(message)
        self.at = at


class Refused(ValueError):
    """Something that the standard library would read and that means nothing certain."""


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Refused(f"key {key[:80]!r} is given twice in one object; which of the two is meant?")
        found[key] = value
    return found


def _constant(word: str) -> NoReturn:
    raise Refused(f"{word} is no JSON number")


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise Refused(f"{digits[:40]} is more than a number here can be")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_number)


def decode(text: str, at: int = 0) -> tuple[Any, int]:
    """The JSON value that begins at a character, and where it ends. Raises JSONFault and nothing else.

    Stricter than the standard library where that is silent: of a key given twice it keeps the last, NaN and Infinity it
    takes for numbers. Python limits how long an integer may be.
    """
    try:
        value, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as fault:
        raise JSONError(fault.msg, fault.pos) from fault
    except RecursionError as fault:
        raise JSONError("nested too deeply", at) from fault
    except Refused as fault:
        raise JSONError(str(fault), at) from fault
    except ValueError as fault:  # an integer of more digits than Python converts
        raise JSONError(f"a number that cannot be read: {str(fault)[:80]}", at) from fault
    # no value is deeper than the number of its brackets, and few have as many as would need a look
    if text.count("[", at, end) + text.count("{", at, end) > DEEPEST and _deeper(value, DEEPEST):
        raise JSONError("nested too deeply", at)
    return value, end


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects lie in one another more than `levels` deep; by levels, so that no depth is too much."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [part for part in layer if isinstance(part, dict | list)]
        layer = [inner for part in layer for inner in (part.values() if isinstance(part, dict) else part)]
    return any(isinstance(part, dict | list) for part in layer)


def parse(text: str) -> Any:
    """One JSON value and nothing beside it. Raises JSONFault."""
    start = past_space(text, 0)
    value, end = decode(text, start)
    end = past_space(text, end)
    if end != len(text):
        raise JSONError("more text after the value", end)
    return value


def past_space(text: str, at: int) -> int:
    """The first character from `at` on that JSON does not pass over."""
    while text[at : at + 1] in (" ", "\n", "\r", "\t"):
        at += 1
    return at


def read_json(file: Path, largest: int = LARGEST) -> Any:
    """The JSON value in a file. Raises ValueError, which names the file, for everything that keeps it from being read."""
    try:
        size = file.stat().st_size
        if size > largest:
            raise JSONError(f"{size:,} bytes; such a file has at most {largest:,}")
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:  # a file of another encoding and JSONFault are ValueErrors
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else fault
        raise ValueError(f"{file}: cannot be read as JSON: {reason}") from fault
