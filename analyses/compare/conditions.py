"""Two conditions on the same items: paired differences, clustered tests, Holm's correction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, points_of, truth
from override_gap.analyses.refusals import unpriced
from override_gap.analyses.results import ResultRows, rows_frame
from override_gap.analyses.stats.by_content import by_content
from override_gap.analyses.stats.clusters import levels
from override_gap.analyses.stats.differences import difference
from override_gap.analyses.stats.estimate import LEVEL, Estimate, HtmlRepr, json_number
from override_gap.analyses.stats.intervals import complete_cases, widest
from override_gap.analyses.stats.paired import holm, paired_at
from override_gap.margins.condition_names import COMBINED, IN_CONTEXT

FEWEST_DIFFERING = 6
"""Clusters that must differ before a sign test can reach .05 (two-sided): 2 / 2^6."""


@dataclass(frozen=True)
class Comparison(HtmlRepr):
    """Success of the first minus the second; ``gained`` counts items that only the first gets, ``lost`` only the second.

    p is two-sided.
    """

    first: str
    second: str
    split: str
    measure: str
    difference: Estimate
    gained: int
    lost: int
    p: float

    def __str__(self) -> str:
        counts = f"only the first {self.gained}, only the second {self.lost}"
        return f"{self.difference}\n  {self.split}, {self.measure}: {counts}, p {self.p:.3g}"

    def frame(self) -> pd.DataFrame:
        """A table of one row."""
        return rows_frame([self.as_json()])

    @property
    def above(self) -> float:
        """One-sided p of "the first succeeds more often"."""
        return self.p / 2 if self.gained > self.lost else 1 - self.p / 2

    def as_json(self) -> dict[str, Any]:
        """Row of ``comparisons`` in the summary."""
        return {
            "first": self.first,
            "second": self.second,
            "split": self.split,
            "measure": self.measure,
            "difference": self.difference.as_json(),
            "gained": self.gained,
            "lost": self.lost,
            "p": json_number(self.p),
        }


def compare(first: Table, second: Table, names: tuple[str, str], split: str, measure: str) -> Comparison | None:
    """Pair two selections of readings by item; None where they share no measured item."""
    column = f"success_{measure}"
    if first.empty or second.empty:
        return None
    here, there = (rows["item"].to_numpy(dtype=object) for rows in (first, second))
    successes, points = (truth(first[column]), truth(second[column])), points_of(first)
    if not np.array_equal(here, there):
        at = pd.Index(there).get_indexer(here)
        shared = at >= 0
        successes, points = (successes[0][shared], successes[1][at[shared]]), points[shared]
    a, b, points = complete_cases(*successes, points)
    return paired(a, b, points, names, split, measure) if len(a) else None


def paired(
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
    points: Shaped[np.ndarray, " n"],
    names: tuple[str, str],
    split: str,
    measure: str,
    coverage: float = LEVEL,
) -> Comparison:
    """Compare the successes of two conditions or methods on the same items, all of them measured.

    Interval and p are of one test (`stats.paired`): p is below 1 - coverage exactly if the interval excludes 0. Where
    fewer than six clusters differ, no p can be below .05, and the interval reaches as far as that of two shares (`difference`).
    """
    found = _paired(first, second, points, coverage)
    gap = replace(found.difference, name=f"{names[0]} minus {names[1]}")
    return replace(found, first=names[0], second=names[1], split=split, measure=measure, difference=gap)


@by_content(1024)
def _paired(
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
    points: Shaped[np.ndarray, " n"],
    coverage: float = LEVEL,
) -> Comparison:
    gained, lost = int((first > second).sum()), int((first < second).sum())
    gap = replace(difference("", first, points, second, points, coverage), n=len(first))
    if gap.points < 2:
        return Comparison("", "", "", "", gap, gained, lost, float("nan"))
    tests = [paired_at(first - second, level, coverage) for level in levels(points)]
    of_shares = [gap.by_point, gap.by_cluster] if gap.by_point and gap.by_cluster else [(gap.low, gap.high)]
    each = [
        (max(-1.0, min(test.low, low)), min(1.0, max(test.high, high)))
        if test.differing < FEWEST_DIFFERING
        else (max(-1.0, test.low), min(1.0, test.high))
        for test, (low, high) in zip(tests, of_shares, strict=True)
    ]
    low, high = widest(each)
    if len(each) > 1:
        gap = replace(gap, by_point=each[0], by_cluster=each[1])
    return Comparison("", "", "", "", replace(gap, low=low, high=high), gained, lost, max(t.p for t in tests))


def holm_rows(found: Sequence[Comparison], again: Callable[[int, float], Comparison]) -> list[dict[str, Any]]:
    """Rows of comparisons with Holm's adjusted p, and the interval that excludes 0 exactly where that is below .05.

    `again(number, coverage)` compares once more at another coverage: Holm's p is k times p, so that the interval is that of
    the same test at 1 - .05 / k.
    """
    rows = []
    for number, (each, p) in enumerate(zip(found, holm([each.p for each in found]), strict=True)):
        times = p / each.p if each.p > 0 else 1.0
        gap = again(number, 1 - (1 - LEVEL) / times).difference if times > 1 + 1e-12 else each.difference
        limits = {"low_holm": json_number(gap.low), "high_holm": json_number(gap.high)}
        rows.append({**each.as_json(), "p_holm": json_number(p), **limits})
    return rows


def conditions(
    run: RunFrame, first: str, second: str, split: str = "conflict", measure: str = "top1"
) -> Comparison | None:
    """Two conditions of one run on the same items; None where they share no measured item."""
    return compare(run.select(split, first), run.select(split, second), (first, second), split, measure)


def against_delivered(run: RunFrame, measure: str = "top1") -> ResultRows:
    """Every condition against the method as delivered, per split, with Holm's correction within a split.

    Ways of running a method that compete with the prompt (the adapter and the prompt together, several documents' factors
    averaged) are compared with the prompt alone as well, where that was measured. A policy that cannot be applied to many
    unrelated questions in use is not compared on those to which it can.
    """
    rows, without = [], unpriced(run)
    for split in ("conflict", "novel", "combination", "retention"):
        left_out = {BASE, DELIVERED} | (without if split == "retention" else set())
        names = [name for name in (*run.conditions, *run.factor_means) if name not in left_out]
        competing = [name for name in names if IN_CONTEXT in names and name in (COMBINED, *run.factor_means)]
        pairs = [*((name, DELIVERED) for name in names), *((name, IN_CONTEXT) for name in competing)]
        found = [conditions(run, first, second, split, measure) for first, second in pairs]
        comparisons = [comparison for comparison in found if comparison is not None]
        for comparison, p in zip(comparisons, holm([comparison.p for comparison in comparisons]), strict=True):
            rows.append(comparison.as_json() | {"p_holm": json_number(p)})
    return ResultRows(f"Each condition minus as-delivered ({measure})", tuple(rows))
