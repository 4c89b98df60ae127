"""Selection: the candidate that overrides most conflicts within the budget, on all items or without a fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from override_gap.analyses.readings import BASE
from override_gap.analyses.tune.budget import Budget
from override_gap.analyses.tune.limits import SURE, Cost, mean_cost, read_levels, share_cost
from override_gap.analyses.tune.outcomes import Outcomes, Sample

BY_LIMIT = "limit"
BY_ESTIMATE = "estimate"


@dataclass(frozen=True, eq=False)
class Priced:
    """Every candidate on a training set: its override, its costs, and whether these are within the budget.

    `estimated`: by the estimates. `within`: by their upper limits, so that the budget is kept with 95% certainty. The base
    costs nothing by definition.
    """

    override: Float[np.ndarray, " candidate"]
    lost: Cost | None
    kl: Cost | None
    estimated: Bool[np.ndarray, " candidate"]
    within: Bool[np.ndarray, " candidate"]


@dataclass(frozen=True, eq=False)
class Selector:
    """The rule with its settings: highest override within the budget, ties to the lower cost, then to the gain nearest 1."""

    outcomes: Outcomes
    budget: Budget
    distance: Sequence[float]
    """Octaves from gain 1, per candidate."""
    rule: str = BY_LIMIT
    sure: float = SURE

    def priced(self, fold: Sequence[Bool[np.ndarray, " _"]] | None = None) -> Priced:
        """The candidates on all items, or on the items of three masks (conflict, retention, KL)."""
        parts = (self.outcomes.conflict, self.outcomes.retention, self.outcomes.kl)
        masks = fold or [np.ones(0 if part is None else len(part), bool) for part in parts]
        override = self.outcomes.conflict.values[masks[0]].mean(axis=0)
        estimated = np.ones(len(override), bool)
        within, lost, kl = estimated.copy(), None, None
        free = np.array([name == BASE for name in self.outcomes.names])
        if self.outcomes.retention is not None:
            lost = share_cost(1 - self.outcomes.retention.values, _levels(self.outcomes.retention), masks[1], self.sure)
        if self.outcomes.kl is not None:
            kl = mean_cost(self.outcomes.kl.values, _levels(self.outcomes.kl), masks[2], self.sure)
        if self.budget.keep is not None:
            assert lost is not None
            estimated &= lost.value <= 1 - self.budget.keep + 1e-12
            within &= lost.upper <= 1 - self.budget.keep + 1e-12
        if self.budget.kl is not None:
            assert kl is not None
            estimated &= kl.value <= self.budget.kl + 1e-12
            within &= kl.upper <= self.budget.kl + 1e-12
        return Priced(override, lost, kl, estimated | free, within | free)

    def best(self, priced: Priced) -> int:
        """The number of the candidate that the rule picks."""
        allowed = priced.within if self.rule == BY_LIMIT else priced.estimated
        cost = [tuple(float(part.value[n]) for part in (priced.lost, priced.kl) if part) for n in range(len(allowed))]
        return best(priced.override, allowed, self.distance, cost)


def best(
    override: Float[np.ndarray, " candidate"],
    allowed: Bool[np.ndarray, " candidate"],
    distance: Sequence[float],
    cost: Sequence[tuple[float, ...]],
) -> int:
    """The allowed candidate of highest override; of those that tie the one that loses fewest answers, then moves the base least.

    Where costs tie as well, the one whose gain is nearest 1, then the first.
    """
    places = np.flatnonzero(allowed).tolist()

    def order(place: int) -> tuple[float | tuple[float, ...], ...]:
        costs = tuple(round(part, 12) for part in cost[place])
        return -round(float(override[place]), 12), costs, distance[place], place

    return int(min(places, key=order))


def _levels(sample: Sample):
    """The clusterings by which a sample's limits are made."""
    return read_levels(sample.points)
