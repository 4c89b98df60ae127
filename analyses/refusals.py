"""Refusals: policies that cannot be applied to some unrelated questions in use, and those that therefore have no price."""

from __future__ import annotations

from typing import Any

from override_gap.analyses.readings import RunFrame, once_per_run

REFUSED = 0.05
"""A policy that cannot be applied to more than this share of unrelated questions has no price: it is in no comparison."""


@once_per_run
def refusals(run: RunFrame) -> list[dict[str, Any]]:
    """Conditions whose policy cannot be applied to some unrelated questions in use: rows of ``matched_retention.refused``."""
    rows = run.readings.loc[run.readings["split"] == "retention", ["condition", "status", "error"]]
    found = []
    for condition in run.conditions:
        of_condition = rows[rows["condition"] == condition]
        refused = of_condition[of_condition["status"] == "refused"]
        if len(refused):
            reason = str(refused["error"].mode().iloc[0])
            found.append({"condition": condition, "n": len(refused), "of": len(of_condition), "reason": reason})
    return found


def unpriced(run: RunFrame) -> set[str]:
    """The conditions that cannot be applied to more than `REFUSED` of the unrelated questions."""
    return {str(row["condition"]) for row in refusals(run) if row["n"] > REFUSED * row["of"]}
