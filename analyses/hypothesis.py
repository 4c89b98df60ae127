"""A hypothesis: a claim, its rule and its test; what a test finds; and a hypothesis with its status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import pandas as pd

from override_gap.analyses.readings import RunFrame
from override_gap.analyses.results import rows_frame
from override_gap.analyses.stats.estimate import Estimate, HtmlRepr, json_number
from override_gap.margins.text import plural

FEWEST, FEWEST_POINTS = 20, 10
"""Conflicts, and knowledge points, that a test needs."""


@dataclass(frozen=True)
class Finding:
    """A test's estimate, ``p`` of the claim, ``against``, p of its opposite (both one-sided), and the effect size in words."""

    estimate: Estimate
    p: float
    against: float
    effect: str


Test = Callable[[RunFrame], Finding | str]


@dataclass(frozen=True)
class Hypothesis:
    """A claim with its rule; ``test`` returns a Finding, or the reason (str) why this run cannot test it."""

    id: str
    claim: str
    rule: str
    test: Test


@dataclass(frozen=True)
class Result(HtmlRepr):
    """A hypothesis with its status among the others tested: supported, refuted, inconclusive or not testable."""

    hypothesis: Hypothesis
    status: str
    finding: Finding | None
    p_holm: float
    reason: str = ""

    def __str__(self) -> str:
        evidence = f"{self.finding.estimate}, Holm p {self.p_holm:.3g}" if self.finding else self.reason
        return f"{self.hypothesis.id} {self.status}: {self.hypothesis.claim}\n  {evidence}"

    def as_json(self) -> dict[str, Any]:
        """Row of the section ``hypotheses``."""
        finding = self.finding
        return {
            "id": self.hypothesis.id,
            "claim": self.hypothesis.claim,
            "rule": self.hypothesis.rule,
            "status": self.status,
            "estimate": finding.estimate.as_json() if finding else None,
            "quantity": finding.estimate.name if finding else None,
            "effect": finding.effect if finding else None,
            "p": json_number(finding.p) if finding else None,
            "p_holm": json_number(self.p_holm),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Results(HtmlRepr, Sequence[Result]):
    """The hypotheses of a run with their statuses; also a list of them."""

    results: tuple[Result, ...]

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, place: int) -> Result: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Result, ...]: ...
    def __getitem__(self, place: int | slice) -> Result | tuple[Result, ...]:
        return self.results[place]

    def __str__(self) -> str:
        return "\n".join(str(result) for result in self.results)

    def _repr_html_(self) -> str:
        return "".join(result._repr_html_() for result in self.results)

    def frame(self) -> pd.DataFrame:
        """One row per hypothesis: id, claim, status, estimate, effect, p and Holm's adjusted p."""
        return rows_frame(self.as_json()).drop(columns="estimate", errors="ignore")

    def as_json(self) -> list[dict[str, Any]]:
        """The section ``hypotheses`` of the summary."""
        return [result.as_json() for result in self.results]


def too_few(n: int, points: int) -> str | None:
    """Why so few conflicts cannot be tested, or None where they can."""
    if n < FEWEST or points < FEWEST_POINTS:
        return f"{plural(n, 'conflict')} over {plural(points, 'knowledge point')}; {FEWEST} over {FEWEST_POINTS} are needed"
    return None
