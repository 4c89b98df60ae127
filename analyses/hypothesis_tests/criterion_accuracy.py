"""H3, the criterion predicts what the model says: accuracy in words, of both directions, against a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Shaped

from override_gap.analyses.hypothesis import FEWEST, Finding, Hypothesis, too_few
from override_gap.analyses.readings import DELIVERED, RunFrame, points_of, truth
from override_gap.analyses.stats.clusters import levels
from override_gap.analyses.stats.differences import correlation, correlation_at, mover
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import limits, limits_at, one_sided, proportion
from override_gap.analyses.stats.logistic import RARE

SAID_RIGHT = 0.80
Side = tuple[Float[np.ndarray, " _"], Shaped[np.ndarray, " _"]]
"""Successes of one side of the criterion, and their points."""


def criterion_predicts(run: RunFrame) -> Finding | str:
    """H3 on greedy answers in words; on first tokens, in the one direction that can fail there, where answers are few."""
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
    same = f"criterion and {measure} agree on {float((override == success).mean()):.0%} of conflicts"
    if measure == "top1":
        return _said_where_the_criterion_says_so(success[yes], points[yes], same)
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
    estimate = Estimate("balanced accuracy against answer", value, low, min(1.0, high), len(success), len(set(points)))
    if len(both_levels := levels(points)) > 1:
        each = [_at_level(sides, place, 1.0 if place else max(0.0, _by_point(sides))) for place in (0, -1)]
        estimate = replace(estimate, clusters=both_levels[1].count, by_point=each[0], by_cluster=each[1])
    p = one_sided(interval, SAID_RIGHT)
    return Finding(estimate, p, 1 - p, same)


def _by_point(sides: Sequence[Side]) -> float:
    """The correlation of the two sides over the points that they share."""
    (first, first_points), (second, second_points) = sides
    return correlation_at(first, second, levels(np.concatenate([first_points, second_points]))[0])


def _at_level(sides: Sequence[Side], place: int, r: float) -> tuple[float, float]:
    """The limits of balanced accuracy at one clustering alone (0: by point, -1: by relation), which stand beside those read."""
    (l1, h1), (l2, h2) = (limits_at(side, levels(points)[place]) for side, points in sides)
    p1, p2 = (float(side.mean()) for side, _ in sides)
    value = (p1 + p2) / 2
    low, high = value - mover(p1 - l1, p2 - l2, -r) / 2, value + mover(h1 - p1, h2 - p2, -r) / 2
    return max(0.0, low), min(1.0, high)


def _said_where_the_criterion_says_so(
    success: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"], same: str
) -> Finding | str:
    """P(first token | criterion) against the threshold.

    An arg max leads the old answer, so that P(not said | no criterion) is 1 on first tokens whatever the model does.
    """
    if len(success) < RARE or len(set(points)) < 2:
        return (
            f"the criterion says yes on {len(success)} items only, and on first tokens it cannot fail where it says no"
        )
    share = proportion("P(first token | criterion)", success, points)
    p = one_sided(lambda level: limits(success, points, level), SAID_RIGHT)
    note = "a first-token success implies a positive margin, so only P(first token | criterion) is tested"
    return Finding(share, p, 1 - p, f"{same}; {note}")


H3 = Hypothesis(
    "H3",
    "The criterion (net margin above zero) predicts what the model says.",
    "Conflicts as delivered, greedy answers in words: supported if the mean of P(said | criterion) and P(not said | no "
    f"criterion) is above {SAID_RIGHT:.0%}; refuted if below. Where answers are few, on first tokens: P(said | criterion) alone, "
    "since the other direction cannot fail there.",
    criterion_predicts,
)
