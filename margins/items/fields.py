"""Fields: one record of a data set, read by name; what it holds is checked, and what nothing read is known afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any


class FieldError(ValueError):
    """A record that does not hold what its form needs; the message names the field, what was needed and what came."""


class Fields:
    """A record, or a record within one. Every reader checks what the field holds and raises FieldError.

    `left_out` counts, by reason, what a converter found and made no item of.
    """

    def __init__(self, values: dict[str, Any], path: str = "", used: set[str] | None = None) -> None:
        self.values = values
        self.left_out: Counter[str] = Counter()
        self._path = path
        self._used: set[str] = set() if used is None else used

    def __contains__(self, name: str) -> bool:
        """Whether the field is there and not empty."""
        return not _empty(self.values.get(name))

    def raw(self, name: str) -> Any:
        """The value as it is; None where there is none."""
        self._used.add(self._path + name)
        return self.values.get(name)

    def text(self, name: str) -> str:
        """One text; a whole number is the text of its digits."""
        value = as_text(self.raw(name))
        if value is None or not value.strip():
            raise FieldError(f"need {self._path}{name} as text, got {self._shown(name)}")
        return value

    def text_or_none(self, name: str) -> str | None:
        """One text, or None where the field is missing or empty."""
        if name not in self:
            self._used.add(self._path + name)
            return None
        return self.text(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """The accepted answers of a field: one text, a list of texts, or lists of them (any of which is right).

        Empty texts and repetitions are left out; a missing field has no answers.
        """
        texts = list(_flat(self.raw(name)))
        if not all(isinstance(text, str) for text in texts):
            raise FieldError(f"need {self._path}{name} as a text or a list of texts, got {self._shown(name)}")
        return tuple(dict.fromkeys(text for text in texts if isinstance(text, str) and text.strip()))

    def inner(self, name: str) -> Fields:
        """The record that a field holds."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise FieldError(f"need {self._path}{name} as a JSON object, got {self._shown(name)}")
        return Fields(value, f"{self._path}{name}.", self._used)

    def each(self, name: str) -> list[Fields]:
        """The records that a field lists; of a single record, that one; none where the field is missing or empty."""
        value: Any = self.values.get(name)
        if _empty(value):
            self._used.add(self._path + name)
            return []
        records: list[Any] = value if isinstance(value, list) else [value]
        if not all(isinstance(record, dict) for record in records):
            raise FieldError(f"need {self._path}{name} as a list of JSON objects, got {self._shown(name)}")
        return [Fields(record, f"{self._path}{name}.", self._used) for record in records]

    def unused(self) -> list[str]:
        """The fields that hold something and were not read, as `outer.inner`; of an unread record only its own name."""
        return sorted(set(self._unused(self.values, self._path)))

    def _unused(self, values: dict[str, Any], path: str) -> Iterator[str]:
        for name, value in values.items():
            here = path + name
            if here in self._used or _empty(value):
                continue
            if not any(other.startswith(f"{here}.") for other in self._used):
                yield here
                continue
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    yield from self._unused(inner, f"{here}.")

    def _shown(self, name: str) -> str:
        if name not in self.values:
            return "no such field"
        shown = repr(self.values[name])
        return shown if len(shown) <= 60 else f"{shown[:60]}..."


def as_text(value: Any) -> str | None:
    """A text, or a number as its digits; None for what has no certain spelling (1994.0 may have been 1994)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int) or (isinstance(value, float) and value == value and not value.is_integer()):
        return str(value)
    return None


def _flat(value: Any) -> Iterator[str | None]:
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _flat(inner)
    elif value is not None:
        yield as_text(value)


def _empty(value: Any) -> bool:
    """Whether a field holds nothing: no value, an empty text, or a list or object of nothing else."""
    if isinstance(value, list | tuple):
        return all(map(_empty, value))
    if isinstance(value, dict):
        return all(map(_empty, value.values()))
    return value is None or (isinstance(value, str) and not value.strip())
