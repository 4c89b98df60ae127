"""Choice: what tuning found, with its figures out of fold and in sample; prints and shows itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from override_gap.analyses.results import rows_frame
from override_gap.analyses.stats.estimate import Estimate, HtmlRepr, json_number
from override_gap.analyses.tune.budget import Budget

SCALE, DELIVERED_BEST, NO_GAIN, UNDECIDED = "scale", "as-delivered", "no-gain", "undecided"
FIGURES = ("conflict", "conflict_as_delivered", "difference", "novel", "combination", "retention", "kl")
Figures = dict[str, Estimate | None]


@dataclass(frozen=True, eq=False)
class Choice(HtmlRepr):
    """The policy to use under a budget, and what to expect of it.

    `recommendation`: `scale` (use `policy`), `as-delivered` (leave the gain at 1), `no-gain` (no gain helps) or `undecided`.
    `says`: the same in a sentence, `further`: what else there is to know. `expected`: figures of the choice on items that it
    was not made on; `in_sample`: of `policy` on the items that it was chosen on; `optimism`: conflict override in sample minus
    out of fold (NaN where there is none). `more`: how many more items of a split would decide, where they are too few.
    """

    policy: str
    recommendation: str
    says: str
    budget: Budget
    expected: Figures
    in_sample: Figures
    optimism: float
    further: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    folds: dict[str, Any] = field(default_factory=dict)
    more: dict[str, int | None] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    table: pd.DataFrame = field(default_factory=pd.DataFrame)

    def frame(self) -> pd.DataFrame:
        """One row per candidate: override and costs on all items, the limits held against the budget, how many folds chose it."""
        return rows_frame(self.rows)

    def held_out(self) -> pd.DataFrame:
        """One row per item: item, point, split, fold, the condition chosen without that fold, success and kl under it."""
        return self.table.copy()

    def as_json(self) -> dict[str, Any]:
        """The section ``tuning`` of the summary, of which gains.json is made."""
        return {
            "policy": self.policy,
            "recommendation": self.recommendation,
            "says": self.says,
            "further": list(self.further),
            "budget": self.budget.as_json(),
            "expected": figures_json(self.expected),
            "in_sample": figures_json(self.in_sample),
            "optimism": json_number(self.optimism),
            "candidates": list(self.rows),
            "folds": self.folds,
            "more": self.more,
            "left_out": [{"condition": name, "reason": why} for name, why in self.left_out.items()],
        }

    def __str__(self) -> str:
        lines = [self.says, *(f"  {line}" for line in self.further), f"  budget: {self.budget}"]
        for name in FIGURES:
            expected, fitted = self.expected.get(name), self.in_sample.get(name)
            if expected is not None:
                seen = "" if fitted is None else f" (in sample {fitted.value:.3g})"
                lines.append(f"  {str(expected).splitlines()[0]}{seen}")
        return "\n".join(lines)


def figures_json(figures: Figures) -> dict[str, Any]:
    """Every figure by its key; null where there is none."""
    found = {name: figures.get(name) for name in FIGURES}
    return {name: None if estimate is None else estimate.as_json() for name, estimate in found.items()}
