"""Methods under one budget: each at its best policy within the same price, and as delivered; who wins at which price."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from override_gap.analyses.compare.conditions import Comparison, holm_rows, paired
from override_gap.analyses.compare.pairing import Runs, measured_rows, one_subject, shared_items
from override_gap.analyses.one_budget.winner import Standing, winner_in_words
from override_gap.analyses.price import UNITS
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, points_of, truth
from override_gap.analyses.results import rows_frame
from override_gap.analyses.stats.estimate import LEVEL, Estimate
from override_gap.analyses.stats.intervals import mean, proportion
from override_gap.analyses.tune import Budget, Choice, choose
from override_gap.analyses.tune.choice import UNDECIDED
from override_gap.analyses.verdict import read_by_rule

KEEPS = (0.99, 0.975, 0.95, 0.9, 0.8, 0.6)
"""Shares of unrelated answers kept over which the methods are compared, beside the budget that was asked for."""
KLS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""The same for KL to the base, nats per token."""


@dataclass(frozen=True, eq=False)
class UnderBudget:
    """A comparison under one budget, as tables of plain rows.

    ``says``: the answer in a sentence. ``methods``: each method's policy within the budget and what it achieves out of fold,
    on the items that all methods share. ``pairs``: paired differences at these policies and as delivered (``at``). ``range``:
    the same by budget, one row per budget and method; ``winners``: one row per budget.
    """

    budget: Budget
    says: str
    methods: tuple[dict[str, Any], ...]
    pairs: tuple[dict[str, Any], ...]
    range: tuple[dict[str, Any], ...]
    winners: tuple[dict[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        """The section ``budget`` of a comparison."""
        tables = ("methods", "pairs", "range", "winners")
        return {**self.budget.as_json(), "says": self.says, **{name: list(getattr(self, name)) for name in tables}}

    def frame(self, table: str = "methods") -> pd.DataFrame:
        """One of the tables: methods, pairs, range or winners."""
        return rows_frame(getattr(self, table))

    def __str__(self) -> str:
        return self.says

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.says)}</p>"


def under_budget(runs: Runs, budget: Budget, seed: int = 0) -> UnderBudget:
    """Compare methods at their best policies within one budget. Raises ValueError where the runs cannot be compared.

    Each policy is chosen on the method's own run (`analyses/tune`); what it achieves on an item is read under the policy that
    was chosen without that item's fold, so that no method is flattered by its choice.
    """
    one_subject(runs)
    about, _ = shared_items(runs)
    here = at_budget(runs, about, budget, seed)
    delivered, kept = (
        {name: delivered_success(run, about, budget.measure, split) for name, run in runs.items()}
        for split in ("conflict", "retention")
    )
    pairs = [
        {"at": at, **row}
        for at, success in (("budget", here.success), ("as-delivered", common(delivered)))
        for row in pair_rows(success, about, budget.measure)
    ]
    rows, winners = [], []
    for other in budgets(budget):
        found = here if other == budget else at_budget(runs, about, other, seed)
        bounds = {"budget_keep": other.keep, "budget_kl": other.kl}
        rows += [{**bounds, **row} for row in method_rows(found, about)]
        winners.append({**bounds, **standing(found, about).as_json()})
    return UnderBudget(
        budget,
        winner_in_words(standing(here, about), budget),
        tuple(method_rows(here, about, delivered, kept)),
        tuple(pairs),
        tuple(rows),
        tuple(winners),
    )


@dataclass(frozen=True, eq=False)
class AtBudget:
    """What was chosen for each method under one budget, and success on shared conflicts out of fold; none where too little."""

    budget: Budget
    choices: Mapping[str, Choice]
    success: Mapping[str, pd.Series]
    """By method that has a choice: success by item, on the conflicts that all of them share."""
    costs: Mapping[str, pd.DataFrame]
    """By such method: rows of the unrelated questions that all of them share, with `success` and `kl`, by item."""


def at_budget(runs: Runs, about: Table, budget: Budget, seed: int) -> AtBudget:
    """Choose a policy for every method under the budget."""
    choices = {name: choose(run, budget, seed=seed) for name, run in runs.items()}
    tables = {name: choice.held_out().set_index("item") for name, choice in choices.items() if choice.expected}
    won, costs = {}, {}
    for name, table in tables.items():
        table = table.loc[table.index.intersection(about.index)]
        won[name] = table.loc[table["split"] == "conflict", "success"].astype(float)
        costs[name] = table.loc[table["split"] == "retention", ["success", "kl"]].astype(float)
    return AtBudget(budget, choices, common(won), common(costs))


def common(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The tables on the items that all of them have, in one order."""
    if not tables:
        return {}
    shared = sorted(set.intersection(*(set(table.index) for table in tables.values())))
    return {name: table.loc[shared] for name, table in tables.items()}


def delivered_success(run: RunFrame, about: Table, measure: str, split: str = "conflict") -> pd.Series:
    """Success as delivered on the shared items of a split, by item."""
    items = about.index[(about["split"] == split).to_numpy()]
    return pd.Series(truth(measured_rows(run, DELIVERED, items)[f"success_{measure}"]), items).dropna()


def points_at(about: Table, items: Iterable[Any]) -> Shaped[np.ndarray, " n"]:
    """Knowledge points, with the clusters by which facts are alike, of some items."""
    return points_of(about.loc[list(items)])


def pair_rows(success: Mapping[str, pd.Series], about: Table, measure: str) -> list[dict[str, Any]]:
    """Every two methods on the same conflicts, with Holm's adjustment over all pairs; none where no conflict is shared."""
    columns = {name: column.to_numpy(float) for name, column in success.items()}
    if len(columns) < 2 or not len(next(iter(columns.values()))):
        return []
    points = points_at(about, next(iter(success.values())).index)
    each = list(combinations(columns, 2))

    def compared(number: int, coverage: float = LEVEL) -> Comparison:
        a, b = each[number]
        return paired(columns[a], columns[b], points, (a, b), "conflict", measure, coverage)

    return holm_rows([compared(number) for number in range(len(each))], compared)


def method_rows(
    found: AtBudget,
    about: Table,
    delivered: Mapping[str, pd.Series] | None = None,
    kept: Mapping[str, pd.Series] | None = None,
) -> list[dict[str, Any]]:
    """One row per method: its policy, and its figures out of fold on the shared items; null where there is no choice."""
    rows = []
    for name, choice in found.choices.items():
        row: dict[str, Any] = {"method": name, "policy": choice.policy, "recommendation": choice.recommendation}
        row |= {"says": choice.says} if delivered is not None else {}
        row |= {"conflict": None, "retention": None, "kl": None}
        if name in found.success and len(found.success[name]):
            row["conflict"] = share(found.success[name], about).as_json()
            costs = found.costs[name]
            if len(costs):
                row["retention"] = share(costs["success"], about).as_json()
            known = costs["kl"].dropna()
            if len(known) and np.isfinite(known).all():
                points = points_at(about, known.index)
                kl = read_by_rule(mean("kl", known.to_numpy(float), points), points)
                row["kl"] = replace(kl, units=UNITS).as_json()
        if delivered is not None:
            as_is = delivered[name]
            row["conflict_as_delivered"] = share(as_is, about).as_json() if len(as_is) else None
        if kept is not None:
            unrelated = kept[name]
            row["retention_as_delivered"] = share(unrelated, about).as_json() if len(unrelated) else None
        rows.append(row)
    return rows


def share(success: Any, about: Table) -> Estimate:
    """A share of items with its clustered interval, read by the verdict's rule as a choice's own figures are."""
    values: Float[np.ndarray, " n"] = success.to_numpy(float)
    points = points_at(about, success.index)
    return read_by_rule(proportion("success", values, points), points)


def standing(found: AtBudget, about: Table) -> Standing:
    """Which method overrides most within the budget, and which of the others it is told apart from."""
    shares = {name: share(column, about) for name, column in found.success.items() if len(column)}
    pairs = pair_rows(found.success, about, found.budget.measure)
    unchosen = {name: choice.says for name, choice in found.choices.items() if name not in shares}
    policies = {name: choice.policy for name, choice in found.choices.items()}
    undecided = [name for name, choice in found.choices.items() if choice.recommendation == UNDECIDED]
    unrelated = len(next(iter(found.costs.values()))) if found.costs else None
    return Standing.of(shares, pairs, policies, unchosen, undecided, unrelated)


def budgets(budget: Budget) -> list[Budget]:
    """The budgets over which methods are compared: the first bound varies, the cheapest first; another bound stays."""
    if budget.keep is not None:
        return [replace(budget, keep=keep) for keep in sorted({*KEEPS, budget.keep}, reverse=True)]
    assert budget.kl is not None
    return [replace(budget, kl=kl) for kl in sorted({*KLS, budget.kl})]
