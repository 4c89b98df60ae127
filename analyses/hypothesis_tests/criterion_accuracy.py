"""H3, the criterion predicts what the model says: balanced accuracy against a threshold."""

from __future__ import annotations

import numpy as np

from override_gap.analyses.hypothesis import FEWEST, Finding, Hypothesis, too_few
from override_gap.analyses.readings import DELIVERED, RunFrame, points_of, truth
from override_gap.analyses.stats.clusters import levels
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import correlation, limits, mover, one_sided
from override_gap.analyses.stats.logistic import RARE

SAID_RIGHT = 0.80


def criterion_predicts(run: RunFrame) -> Finding | str:
    """H3: balanced accuracy of the criterion against the greedy answer (against top1 where answers are few)."""
    rows = run.select("conflict", DELIVERED)
    override, points = truth(rows["success_margin"]), points_of(rows)
    for measure in ("answer", "top1"):
        success = truth(rows[f"success_{measure}"])
        both = ~np.isnan(override) & ~np.isnan(success)
        if both.sum() >= FEWEST:
            break
    override, success, points = override[both], success[both], points[both]
    if reason := too_few(len(success), len(set(points))):
        return reason
    yes, no = override == 1, override == 0
    if min(yes.sum(), no.sum()) < RARE:
        return f"the criterion gives the same answer on nearly all items ({yes.sum()} yes, {no.sum()} no)"
    sides = [(success[yes], points[yes]), (1 - success[no], points[no])]
    if min(len(set(side_points)) for _, side_points in sides) < 2:
        return "all items on which the criterion says yes, or all on which it says no, are of one knowledge point"
    value = float(np.mean([side.mean() for side, _ in sides]))
    # Where relations differ, they differ on both sides at once, and few relations cannot show by how much: r is then taken as 1.
    r = 1.0 if len(levels(points)) > 1 else correlation(*sides[0], *sides[1])

    def interval(level: float) -> tuple[float, float]:
        (l1, h1), (l2, h2) = (limits(side, side_points, level) for side, side_points in sides)
        (p1, p2) = (side.mean() for side, _ in sides)
        return value - mover(p1 - l1, p2 - l2, -r) / 2, value + mover(h1 - p1, h2 - p2, -r) / 2

    low, high = interval(0.95)
    estimate = Estimate(
        f"balanced accuracy against {measure}", value, low, min(1.0, high), len(success), len(set(points))
    )
    p = one_sided(interval, SAID_RIGHT)
    same = float((override == success).mean())
    note = (
        "; a first-token success implies a positive margin, so only the other direction is tested"
        if measure == "top1"
        else ""
    )
    return Finding(estimate, p, 1 - p, f"criterion and {measure} agree on {same:.0%} of conflicts{note}")


H3 = Hypothesis(
    "H3",
    "The criterion (net margin above zero) predicts what the model says.",
    "Conflicts as delivered, greedy answers (first token where answers are few): supported if the mean of "
    f"P(said | criterion) and P(not said | no criterion) is above {SAID_RIGHT:.0%}; refuted if below.",
    criterion_predicts,
)
