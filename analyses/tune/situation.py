"""What the rule saw: whether it is enough to choose on, and the questions that a recommendation asks of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from override_gap.analyses.compare.conditions import paired
from override_gap.analyses.readings import DELIVERED, RunFrame
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.tune.budget import Budget
from override_gap.analyses.tune.choice import Figures
from override_gap.analyses.tune.outcomes import Outcomes, Sample
from override_gap.analyses.tune.select import Priced
from override_gap.analyses.verdict import read_by_rule
from override_gap.margins.text import plural

FEWEST, FEWEST_POINTS = 10, 5
"""As in the verdict's rule: fewer items or knowledge points of a split say nothing."""


def too_little(found: Outcomes, budget: Budget) -> str:
    """Why nothing can be chosen, in a sentence; empty where it can."""
    words = " answered in words (--answers sets how many are)" if budget.measure == "answer" else ""
    least = f"it takes {FEWEST} on {FEWEST_POINTS} knowledge points"
    short = _short(found.conflict)
    if short:
        return f"Too few conflicts to choose a gain on: {short}{words}; {least}."
    bounded = [(budget.keep, found.retention, "Retention"), (budget.kl, found.kl, "KL to the base")]
    for bound, sample, name in bounded:
        if bound is None:
            continue
        if sample is None:
            to_do = "add unrelated questions (items whose split is retention) and audit again"
            if words and name == "Retention":
                name, to_do = (
                    "Retention in words",
                    "audit with a larger --answers, and with items of the split retention",
                )
            return f"{name} was not measured: what a gain costs is unknown, so none can be recommended; {to_do}."
        short = _short(sample)
        if short:
            return f"Too few unrelated questions to price a gain: {short}{words}; {least}."
    return ""


def _short(sample: Sample) -> str:
    """How few items there are, or nothing where they are enough."""
    points = len(set(sample.points))
    if len(sample) >= FEWEST and points >= FEWEST_POINTS:
        return ""
    return f"{len(sample)} on {plural(points, 'knowledge point')}" if len(sample) else "none"


@dataclass(frozen=True, eq=False)
class Situation:
    """What the rule saw, with the questions that a recommendation asks of it."""

    run: RunFrame
    found: Outcomes
    priced: Priced
    final: int
    expected: Figures
    budget: Budget
    chosen: tuple[int, ...] = ()
    """What the rule picks without each fold: the figures out of fold are of these."""

    @property
    def delivered(self) -> int:
        """The number of the candidate as delivered."""
        return self.found.names.index(DELIVERED)

    def name(self, place: int) -> str:
        """A candidate's name."""
        return self.found.names[place]

    def gap(self, place: int, reference: int) -> Estimate:
        """Override of a candidate minus that of another, on all items."""
        values, points = self.found.conflict.values, self.found.conflict.points
        pair = (self.name(place), self.name(reference))
        return read_by_rule(
            paired(values[:, place], values[:, reference], points, pair, "conflict", "").difference, points
        )

    def price(self, place: int) -> str:
        """What a candidate costs on all items, with the limits that the budget is held against."""
        lost, kl = self.priced.lost, self.priced.kl
        parts = []
        if lost is not None and (self.budget.keep is not None or kl is None):
            parts.append(
                f"keeps {1 - lost.value[place]:.1%} of unrelated answers (at least {1 - lost.upper[place]:.1%})"
            )
        if kl is not None and self.budget.kl is not None:
            parts.append(
                f"moves the base by {kl.value[place]:.3f} nats per token there (at most {kl.upper[place]:.3f})"
            )
        return " and ".join(parts)

    @property
    def not_shown(self) -> list[int]:
        """Candidates within the budget by their estimates but not by their limits, best override first."""
        unsure = np.flatnonzero(self.priced.estimated & ~self.priced.within)
        return sorted(unsure.tolist(), key=lambda place: -self.priced.override[place])
