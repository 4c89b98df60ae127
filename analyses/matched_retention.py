"""Does a policy override more than uniform scaling that costs as much, and does anything else suffer?

`equal_cost` compares each policy with the uniform gain that keeps as many unrelated answers, and with the one that moves the
base as far on unrelated questions (mean KL). A policy that cannot be applied to such questions is refused, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from override_gap.analyses.equal_cost import COSTS, KL, RETENTION, grid, matched
from override_gap.analyses.price import mean_kl
from override_gap.analyses.readings import DELIVERED, RunFrame
from override_gap.analyses.refusals import refusals, unpriced
from override_gap.analyses.results import ResultSection
from override_gap.analyses.stats.differences import difference, difference_limits
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import one_sided, proportion, two_way

MARGIN = 0.05
"""A loss of novel recall or retention of more than this counts as inferior."""


def frontier(run: RunFrame) -> list[dict[str, Any]]:
    """Override, retention and novel recall (top1) of every condition that has a price, and its mean KL on retention items."""
    grids = {split: grid(run, split) for split in ("conflict", "retention", "novel")}
    rows, without = [], unpriced(run)
    for condition in run.conditions:
        if condition in without:
            continue
        rates = {
            split: proportion(split, wide[condition].to_numpy(float), points)
            for split, (wide, points) in grids.items()
            if condition in wide
        }
        if "conflict" in rates and "retention" in rates and rates["conflict"].n and rates["retention"].n:
            novel, kl = rates.get("novel"), mean_kl(run, condition)
            rows.append(
                {
                    "condition": condition,
                    "override": rates["conflict"].as_json(),
                    "retention": rates["retention"].as_json(),
                    "novel": novel.as_json() if novel and novel.n else None,
                    "kl": kl.as_json() if kl else None,
                }
            )
    return rows


@dataclass(frozen=True)
class NonInferiority:
    """Success of a condition minus that of a reference on one split; ``p`` tests "not worse by more than the margin"."""

    split: str
    difference: Estimate
    p: float
    margin: float


def non_inferior(
    run: RunFrame, condition: str, split: str, reference: str = DELIVERED, margin: float = MARGIN
) -> NonInferiority | None:
    """A condition against a reference on the same items, clustered by point; None where one side was not measured."""
    wide, points = grid(run, split)
    if condition not in wide or reference not in wide:
        return None
    both = wide[[condition, reference]].notna().all(axis=1).to_numpy()
    if both.sum() == 0 or len(set(points[both])) < 2:
        return None
    first, second = (wide[name].to_numpy(float)[both] for name in (condition, reference))

    limits = difference_limits(first, second, np.tile(points[both], 2))
    gap = difference(f"{split} against {reference}", first, points[both], second, points[both])
    p = one_sided(lambda level: two_way(gap.value, limits(level)), -margin)
    return NonInferiority(split, gap, p, margin)


def matched_retention(run: RunFrame, seed: int = 0) -> ResultSection | None:
    """The section ``matched_retention`` of the summary; None without retention items or two uniform gains."""
    comparisons = matched(run, seed)
    if comparisons is None:
        return None
    refused = refusals(run)
    content = {
        "frontier": frontier(run),
        "comparisons": [row.as_json() for row in comparisons[RETENTION]],
        "kl": [row.as_json() for row in comparisons[KL]],
        "refused": refused,
    }
    lines = [
        f"{row.condition} against uniform gain {row.gain:.3g} at equal {cost}, p {row.p:.3g}: {row.difference}"
        for cost in COSTS
        for row in comparisons[cost]
    ]
    lines += [
        f"{row['condition']}: refused on {row['n']} of {row['of']} unrelated questions: {row['reason']}"
        for row in refused
    ]
    title = "Override minus that of uniform scaling at the same cost: retention, and KL to the base"
    return ResultSection(title, content, "comparisons", tuple(lines))
