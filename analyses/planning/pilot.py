"""What a pilot run says of the truth that a larger audit would meet, and what it leaves open."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Shaped

from override_gap.analyses.causes import HELD, causes
from override_gap.analyses.planning.simulated import Truth
from override_gap.analyses.readings import DELIVERED, RunFrame, points_of, truth, values
from override_gap.analyses.stats.clusters import levels
from override_gap.analyses.stats.effective import intraclass
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import proportion, sized

DRAWS = 40
"""Truths that stand for what a pilot leaves open."""
UNKNOWN_ICC = 0.3
"""Correlation within points that is supposed where a pilot has one question of each."""


Named = tuple[str, np.ndarray, np.ndarray]
"""A share's name, its outcomes and their points, of different numbers of questions."""


@dataclass(frozen=True)
class Pilot:
    """The truth that a pilot estimates, its shares with their intervals, and truths drawn from what it leaves open."""

    truth: Truth
    shares: tuple[Estimate, ...]
    truths: tuple[Truth, ...]

    def __str__(self) -> str:
        t = self.truth
        alike, further = (", ".join(f"{value:.2f}" for value in each) for each in zip(*(t.apart or ()), strict=True))
        relations = f"; {t.relations} relations, whose points by {further}" if t.relations else ""
        return "\n".join(
            [
                *(f"pilot: {share.percent().splitlines()[0]}" for share in self.shares),
                f"pilot: {t.items_per_point:.1f} conflicts per point, which correlate by {alike}{relations}",
            ]
        )


def pilot(run: RunFrame, seed: int = 0) -> Pilot:
    """Read a pilot. Raises ValueError where it holds no known conflict, no failure, or no search of its failures."""
    rows = run.select("conflict", DELIVERED)
    known = truth(rows["known"]) == 1.0
    if not known.any():
        raise ValueError(
            "the pilot has no conflict whose old answer the base model knows, so it tells nothing of a verdict"
        )
    found = causes(run)
    if found is None:
        raise ValueError(
            "the failures of the pilot were not searched, or there are none: audit with --probes search, or give --failures "
            "and --held"
        )
    points = points_of(rows)
    outcomes: list[Named] = [
        ("known", known.astype(float), points),
        ("failing as delivered", 1 - values(rows["success_top1"])[known], points[known]),
        ("held", found.items["cause"].isin(HELD).to_numpy(dtype=float), points_of(found.items)),
    ]
    shares = tuple(proportion(name, outcome, where) for name, outcome, where in outcomes)
    apart = tuple(_correlations(outcome, where) for _, outcome, where in outcomes)
    by = levels(points)
    relations = by[1].count if len(by) > 1 else 0
    known_share, failing_share, held_share = (share.value for share in shares)
    per_point = len(rows) / by[0].count
    icc, icc_relation = (float(np.mean(each)) for each in zip(*apart, strict=True))
    estimate = Truth(known_share, failing_share, held_share, per_point, relations, icc, icc_relation, apart)
    rng = np.random.default_rng([seed, 11])
    drawn = np.column_stack([_drawn(rng, outcome, where) for _, outcome, where in outcomes])
    truths = tuple(
        replace(estimate, known=known, failing=failing, held=held) for known, failing, held in drawn.tolist()
    )
    return Pilot(estimate, shares, truths)


def _drawn(
    rng: np.random.Generator, outcome: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"]
) -> Float[np.ndarray, " draw"]:
    """Shares that the pilot does not exclude: a beta distribution (Jeffreys' prior) at the smallest effective sample size."""
    if len(set(points)) < 2:
        return rng.beta(outcome.sum() + 0.5, len(outcome) - outcome.sum() + 0.5, DRAWS)
    size = min(sized(outcome, level)[0] for level in levels(points))
    share = float(outcome.mean())
    return rng.beta(share * size + 0.5, (1 - share) * size + 0.5, DRAWS)


def _correlations(outcome: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"]) -> tuple[float, float]:
    """Correlation of two questions of a point, and of a relation (at most the first).

    Where nothing varies, or every point has one question, it is not known: UNKNOWN_ICC within points, 0 within relations.
    """
    found = [UNKNOWN_ICC, 0.0]
    for number, level in enumerate(levels(points)):
        if outcome.min() < outcome.max() and level.count < len(outcome):
            found[number] = intraclass(outcome - outcome.mean(), level.codes, level.count)
    return found[0], min(found)
