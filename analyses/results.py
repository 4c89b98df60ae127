"""What an analysis returns: a table (`frame`), a text (`summary`, also what it prints) and its part of summary.json.

`ResultRows` is one table, `ResultSection` several tables under one title. Results that carry more than rows (the verdict,
the prior gradient, the hypotheses) are classes of their own with the same three methods.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import pandas as pd

from override_gap.analyses.stats.estimate import Estimate, HtmlRepr

SHOWN = 12
"""Rows of a table that are printed; `frame` has them all."""
ESTIMATE = ("value", "low", "high", "n", "points")


@dataclass(frozen=True, eq=False)
class ResultRows(HtmlRepr, Sequence[dict[str, Any]]):
    """One table: each row is a dict of summary.json, so that the result can also be read as a list of rows."""

    title: str
    rows: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        return self.rows[place]

    def __str__(self) -> str:
        lines = [f"  {row_text(row)}" for row in self.rows[:SHOWN]]
        if len(self) > SHOWN:
            lines.append(f"  and {len(self) - SHOWN} more rows: frame() has them all")
        return "\n".join([f"{self.title}: {len(self)} rows" if len(self) else f"{self.title}: no rows", *lines])

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.title)}</p>{self.frame().to_html(max_rows=SHOWN)}"

    def frame(self) -> pd.DataFrame:
        """One row per row; an estimate within a row becomes columns such as `difference.value`."""
        return rows_frame(self.rows)

    def as_json(self) -> list[dict[str, Any]]:
        """The rows, as summary.json holds them."""
        return list(self.rows)


@dataclass(frozen=True, eq=False)
class ResultSection(HtmlRepr):
    """A section of summary.json: several tables, with lines of text that state its estimates and their caveats."""

    title: str
    content: Mapping[str, Any]
    """The section, as summary.json holds it."""
    main: str
    """The key of the table that `frame` gives unless another is named."""
    lines: tuple[str, ...] = ()

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"  {part}" for line in self.lines for part in line.split("\n"))])

    @property
    def tables(self) -> list[str]:
        """The names that `frame` takes."""
        return [key for key, value in self.content.items() if is_table(value)]

    def frame(self, table: str = "") -> pd.DataFrame:
        """One of the section's tables: the main one, or the named one. Raises KeyError where there is none of the name."""
        name = table or self.main
        if not is_table(self.content.get(name)):
            raise KeyError(f"{self.title}: no table {name!r}; there are {', '.join(self.tables)}")
        return rows_frame(self.content[name])

    def as_json(self) -> dict[str, Any]:
        """The section, as summary.json holds it."""
        return dict(self.content)


def is_table(value: Any) -> bool:
    """Whether a value of a section is a list of rows."""
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def rows_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of summary.json as a table; a dict within a row becomes columns such as `difference.value`."""
    return pd.json_normalize([dict(row) for row in rows])


def estimates_frame(estimates: Mapping[str, Estimate | None]) -> pd.DataFrame:
    """One row per estimate that exists: its name, then value, low, high, n, points."""
    return rows_frame({"quantity": name} | estimate.as_json() for name, estimate in estimates.items() if estimate)


def row_text(row: Mapping[str, Any]) -> str:
    """A row in one line: texts as they are, numbers behind their names, estimates as value [low, high]."""
    words = [
        str(value) if isinstance(value, str) else f"{key}={number_text(value)}"
        for key, value in row.items()
        if key not in ESTIMATE and isinstance(value, str | bool | int | float)
    ]
    words += [
        f"{key} {estimate_text(value)}" for key, value in row.items() if isinstance(value, Mapping) and "low" in value
    ]
    return " ".join(words) + (f": {estimate_text(row)}" if "low" in row else "")


def estimate_text(row: Mapping[str, Any]) -> str:
    """``0.41 [0.32, 0.51], n=194, points=72``; a dash stands for what is not known."""
    value = number_text(row["value"] if "value" in row else row.get("mean"))
    sizes = f", n={row['n']}, points={row['points']}" if "points" in row and "n" in row else ""
    return f"{value} [{number_text(row['low'])}, {number_text(row['high'])}]{sizes}"


def number_text(value: float | int | None) -> str:
    """Three significant digits; a dash for None."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, bool | int) else f"{value:.3g}"
