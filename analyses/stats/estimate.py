"""An estimate with its interval, units, sample size and caveats, which prints and shows itself."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

LEVEL = 0.95
"""Coverage that every interval of this package aims at."""


class HtmlRepr:
    """A result that a notebook shows as what it prints: the first line, its further lines as a list."""

    def summary(self) -> str:
        """The result as text: what `print` shows."""
        return str(self)

    def _repr_html_(self) -> str:
        head, *notes = str(self).split("\n")
        items = "".join(f"<li>{html.escape(note.strip())}</li>" for note in notes)
        return f"<p>{html.escape(head)}</p>" + (f"<ul>{items}</ul>" if items else "")


@dataclass(frozen=True)
class Estimate(HtmlRepr):
    """One estimate with its interval; ``points`` counts the knowledge points (clusters) behind ``n`` items.

    Where relations (or the field that `--cluster` names) are known, ``clusters`` counts them, ``by_point`` and ``by_cluster``
    are the intervals at either clustering, and ``low`` to ``high`` reaches as far as the wider of them on each side.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    points: int
    units: str = ""
    level: float = LEVEL
    caveats: tuple[str, ...] = ()
    clusters: int | None = None
    by_point: tuple[float, float] | None = None
    by_cluster: tuple[float, float] | None = None

    def __str__(self) -> str:
        units = f" {self.units}" if self.units else ""
        interval = f" [{self.low:.3g}, {self.high:.3g}]" if math.isfinite(self.low) else ""
        line = f"{self.name} {self.value:.3g}{interval}{units}, {self.sizes}"
        return "\n".join([line, *(f"  note: {caveat}" for caveat in self.caveats)])

    def percent(self) -> str:
        """A share as text in per cent."""
        interval = f" [{100 * self.low:.0f}, {100 * self.high:.0f}]" if math.isfinite(self.low) else ""
        line = f"{self.name} {100 * self.value:.0f}%{interval}, {self.sizes}"
        return "\n".join([line, *(f"  note: {caveat}" for caveat in self.caveats)])

    @property
    def sizes(self) -> str:
        """``n=194, points=72``, and the number of relations where they are known."""
        relations = "" if self.clusters is None else f", relations={self.clusters}"
        return f"n={self.n}, points={self.points}{relations}"

    @property
    def known(self) -> bool:
        """Whether there is a value at all."""
        return math.isfinite(self.value)

    def as_json(self) -> dict[str, Any]:
        """The five keys of an estimate in summary.json, and five more where relations are known; null: not a finite number."""
        both = {}
        if self.clusters is not None and self.by_point and self.by_cluster:
            names = ("low_point", "high_point", "low_cluster", "high_cluster")
            limits = map(json_number, (*self.by_point, *self.by_cluster))
            both = {"clusters": int(self.clusters)} | dict(zip(names, limits, strict=True))
        return {
            "value": json_number(self.value),
            "low": json_number(self.low),
            "high": json_number(self.high),
            "n": int(self.n),
            "points": int(self.points),
        } | both

    def frame(self) -> pd.DataFrame:
        """A table of one row: name, value, low, high, n, points, units."""
        return pd.DataFrame([{"name": self.name} | self.as_json() | {"units": self.units}])


def missing(name: str, why: str, n: int = 0, points: int = 0, units: str = "") -> Estimate:
    """An estimate that the data do not allow, with the reason as its caveat."""
    nan = math.nan
    return Estimate(name, nan, nan, nan, n, points, units, caveats=(why,))


def json_number(value: Any) -> float | None:
    """A float fit for JSON: NaN, infinity and None become null."""
    if value is None:
        return None
    value = float(value)
    return value if math.isfinite(value) else None
