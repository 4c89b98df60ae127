"""Tables and estimates of docs/mechanism.md as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def estimate(row: Mapping[str, Any] | None, digits: int = 2, sign: bool = False) -> str:
    """'0.60 [0.55, 0.66]'; a dash where there is none."""
    if not row or row.get("value") is None:
        return "\N{EN DASH}"
    form = f"{{:{'+' if sign else ''}z.{digits}f}}"
    text = form.format(row["value"])
    if row.get("low") is not None and row.get("high") is not None:
        text += f" [{form.format(row['low'])}, {form.format(row['high'])}]"
    return text


def first(rows: Iterable[Mapping[str, Any]] | None, **values: Any) -> Mapping[str, Any] | None:
    """The first row that has these values."""
    return next((row for row in rows or () if all(row.get(key) == value for key, value in values.items())), None)


def table(title: str, says: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A section with one table; nothing without rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if not lines:
        return []
    return [
        f"## {title}\n" if title else "",
        says + "\n",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *lines,
        "",
    ]
