"""Tables of a comparison under one budget: policies and figures, paired differences, and who wins at which budget."""

from __future__ import annotations

from collections.abc import Mapping

from override_gap.reports.page.table import Table
from override_gap.reports.text import ABSENT, estimate, p_cell, rounded, untrusted


def budget_tables(comparison: Mapping) -> tuple[Table, ...]:
    """The tables; none where no budget was given."""
    budget = comparison.get("budget")
    if budget is None:
        return ()
    return (_methods(budget), _pairs(budget), _range(budget), _winners(budget))


def _figures(row: Mapping) -> tuple:
    """Override, answers kept and KL of a row, or that there are none."""
    kinds = (("conflict", "share"), ("retention", "share"), ("kl", "number"))
    return tuple(estimate(row[key], kind) if row[key] else ABSENT for key, kind in kinds)


def _methods(budget: Mapping) -> Table:
    return Table(
        "Every method at its best policy within the budget",
        "Out of fold, on the items that all methods share: each item is read under the policy that was chosen without its "
        "fold. Per cent with 95% interval; KL in nats per token on unrelated questions. A policy is within the budget if its "
        "price is, with 95% certainty. Advice: what tuning says of the method's whole run.",
        ("method", "policy", "conflicts overridden", "unrelated kept", "KL", "as delivered", "advice"),
        tuple(
            (
                untrusted(row["method"]),
                untrusted(row["policy"]),
                *_figures(row),
                estimate(row["conflict_as_delivered"], "share") if row["conflict_as_delivered"] else ABSENT,
                untrusted(row["says"]),
            )
            for row in budget["methods"]
        ),
        open=True,
    )


def _pairs(budget: Mapping) -> Table:
    return Table(
        "Paired differences within the budget, and as delivered",
        "First minus second on the same conflicts, in percentage points; Holm's adjustment runs over all pairs.",
        ("at", "first", "second", "difference", "gained", "lost", "p", "p, Holm"),
        tuple(
            (
                "within the budget" if row["at"] == "budget" else row["at"],
                untrusted(row["first"]),
                untrusted(row["second"]),
                estimate(row["difference"], "points"),
                rounded(row["gained"]),
                rounded(row["lost"]),
                p_cell(row["p"]),
                p_cell(row["p_holm"]),
            )
            for row in budget["pairs"]
        ),
        open=True,
    )


def bound(row: Mapping) -> str:
    """A budget in words: 'keep 95%, KL 0.05'."""
    keep, kl = row["budget_keep"], row["budget_kl"]
    return ", ".join([*([] if keep is None else [f"keep {100 * keep:g}%"]), *([] if kl is None else [f"KL {kl:g}"])])


def _range(budget: Mapping) -> Table:
    return Table(
        "Over a range of budgets",
        "The same choice under tighter and looser budgets, out of fold.",
        ("budget", "method", "policy", "advice", "conflicts overridden", "unrelated kept", "KL"),
        tuple(
            (
                bound(row),
                untrusted(row["method"]),
                untrusted(row["policy"]),
                untrusted(row["recommendation"]),
                *_figures(row),
            )
            for row in budget["range"]
        ),
    )


def _winners(budget: Mapping) -> Table:
    return Table(
        "Who wins at which price?",
        "The method that overrides most within each budget, and its paired lead over the next in percentage points. Ahead of "
        "all: Holm's adjusted p is below .05 against every other method. Undecided: "
        "the methods for which tuning leaves open what to do within the budget, so that the row is no answer for them.",
        ("budget", "most overrides", "policy", "undecided", "next", "lead", "ahead of all"),
        tuple(
            (
                bound(row),
                untrusted(row["method"]),
                untrusted(row["policy"]),
                untrusted(", ".join(row["undecided"])) if row["undecided"] else "none",
                untrusted(row["next"]),
                estimate(row["lead"], "points") if row["lead"] else ABSENT,
                "yes" if row["ahead_of_all"] else "not shown",
            )
            for row in budget["winners"]
        ),
        open=True,
    )
