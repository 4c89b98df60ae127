"""How often each test says "supported" at the edge of its null, over simulated audits of facts that come in relations.

Each hypothesis is tested alone, without Holm's correction, on readings whose truth is exactly at the bound that the claim has
to pass (`tests/simulated_worlds.py`). A test of level 5% should then say "supported" in at most 5% of audits. A row pools
worlds of 15 and 40 relations of equal and of Pareto size, with 100 and 600 questions.

    python -m benchmarks.false_positives [AUDITS PER CELL [TEST...]] > docs/calibration/false_positives.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from override_gap.analyses.calibration import markdown
from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.constancy import BOUND
from override_gap.analyses.hypotheses import STANDARD, evaluate
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.stats.intervals import wilson
from tests.simulated_worlds import CONDITIONS, Facts, RelationWorld, as_run, facts, normal_quantile

LEVEL = 0.05
SAID, RESCUED = 0.80, 0.50
ICC, RELATIONS, N, SIZES = (0.0, 0.5), (15, 40), (100, 600), ("equal", "pareto")
GAINS = CONDITIONS | {"slb": 1.75, "random-layers": 1.75, "random-matched": 1.75}
BY_ID = {hypothesis.id: hypothesis for hypothesis in STANDARD}


def at_gains(holds: Callable[[float], np.ndarray]) -> dict[str, np.ndarray]:
    """Success under every condition, from its gain."""
    return {name: holds(gain) for name, gain in GAINS.items()}


def below(drawn: Facts, share: float, world: RelationWorld) -> np.ndarray:
    """A trait of a share of questions that is independent of the prior and as alike in a relation as the margins are."""
    return drawn.adapter - 3.0 < world.sd * normal_quantile(share)


def unrelated(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
    """H1: whether a question fails has nothing to do with its prior, and both are alike within a relation."""
    drawn = facts(rng, world)
    return as_run(drawn, at_gains(lambda _: below(drawn, 0.5, world)))


def at_the_bound(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
    """H2: the adapter margin grows with log frequency by exactly `BOUND` times as much as the prior margin."""
    return as_run(facts(rng, replace(world, rise=2.0, pass_on=BOUND, sd=1.0)))


def follows_criterion(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
    """H3: the model says what the criterion says with probability `SAID`, by a trait that is alike within a relation."""
    drawn = facts(rng, world)
    trait = below(replace(drawn, adapter=alike(rng, drawn, world)), SAID, world)
    run = as_run(drawn)
    wins = run.readings["success_margin"].to_numpy(dtype=bool)
    follow = np.tile(trait, len(CONDITIONS))
    answers = np.where(follow, wins, ~wins)
    return RunFrame(run.manifest, run.readings.assign(success_answer=answers))


def alike(rng: np.random.Generator, drawn: Facts, world: RelationWorld) -> np.ndarray:
    """A fresh margin over the same relations and points."""
    relation = rng.normal(size=drawn.relation.max() + 1)[drawn.relation]
    point = rng.normal(size=drawn.point.max() + 1)[drawn.point]
    own = rng.normal(size=len(drawn.point))
    parts = np.sqrt(world.icc) * relation + np.sqrt(world.point_icc) * point
    return 3.0 + world.sd * (parts + np.sqrt(1 - world.icc - world.point_icc) * own)


def half_rescued(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
    """H4: every question fails as delivered, and half are rescued at gain 2, alike within a relation."""
    drawn = facts(rng, world)
    rescued = below(drawn, RESCUED, world)
    return as_run(drawn, at_gains(lambda gain: rescued & (gain >= 2)), critical_gain=np.where(rescued, 2.0, np.inf))


def gain_in_disguise(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
    """H5: slb and both controls are the uniform gain 1.75 under other names."""
    conflict = facts(rng, world)
    tables = [as_run(conflict, conditions=GAINS).readings]
    tolerance = np.exp((alike(rng, conflict, world) - 3.0) / 4 + 1.2)
    kept = {"retention": at_gains(lambda gain: gain < tolerance), "novel": at_gains(lambda gain: tolerance > 1.0)}
    for split, success in kept.items():
        tables.append(as_run(conflict, success, split, conditions=GAINS).readings)
    manifest = as_run(conflict).manifest | {"conditions": list(GAINS)}
    return RunFrame(manifest, pd.concat(tables, ignore_index=True))


def exchanged_by_coin(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
    """Paired test: the successes of two conditions are exchanged with probability 1/2 per relation."""
    drawn = facts(rng, world)
    swapped = (rng.random(world.relations) < 0.5)[drawn.relation]
    two, three = (gain * drawn.adapter > drawn.prior for gain in (1.0, 2.0))
    success = {"uniform-2": np.where(swapped, three, two), "uniform-3": np.where(swapped, two, three)}
    return as_run(drawn, success)


def supported(name: str) -> Callable[[RunFrame], bool]:
    """Whether a hypothesis, tested alone, is supported."""
    return lambda run: evaluate(run, [BY_ID[name]])[0].status == "supported"


def conditions_differ(run: RunFrame) -> bool:
    """Whether the two-sided paired test finds a difference between uniform-2 and uniform-3."""
    difference = comparison.conditions(run, "uniform-2", "uniform-3")
    return difference is not None and difference.p < LEVEL


@dataclass(frozen=True)
class Null:
    """A test, the truth at the edge of its null in words, and how to simulate readings from it."""

    test: str
    truth: str
    draw: Callable[[np.random.Generator, RelationWorld], RunFrame]
    rejects: Callable[[RunFrame], bool]


NULLS = (
    Null("H1", "failure has nothing to do with the prior", unrelated, supported("H1")),
    Null("H2", f"adapter slope = {BOUND:g} x prior slope", at_the_bound, supported("H2")),
    Null("H3", f"answers follow the criterion with P = {SAID:g}", follows_criterion, supported("H3")),
    Null("H4", f"{RESCUED:.0%} of questions rescued", half_rescued, supported("H4")),
    Null("H5", "slb is a uniform gain in disguise", gain_in_disguise, supported("H5")),
    Null("paired test", "conditions exchanged by a coin per relation", exchanged_by_coin, conditions_differ),
)


def main(audits: int = 100, *tests: str) -> None:
    """Print the table of false-positive rates."""
    rows = []
    for null in (null for null in NULLS if not tests or null.test in tests):
        for icc in ICC:
            cells = {}
            for relations in RELATIONS:
                for n in N:
                    for sizes in SIZES:
                        count = max(4, audits // 6) if null.test == "H5" else audits  # it resamples
                        world = RelationWorld(relations, n, sizes, icc)
                        rngs = (np.random.default_rng([seed, relations, n]) for seed in range(count))
                        cells[relations, n, sizes] = [null.rejects(null.draw(rng, world)) for rng in rngs]
            pooled = [hit for cell in cells.values() for hit in cell]
            low, high = wilson(sum(pooled), len(pooled))
            most, (relations, n, sizes) = max((float(np.mean(cell)), name) for name, cell in cells.items())
            rows.append(
                {
                    "test": null.test, "truth": null.truth, "icc": icc, "supported": f"{np.mean(pooled):.3f}",
                    "low": f"{low:.3f}", "high": f"{high:.3f}", "audits": len(pooled),
                    "highest cell": f"{most:.2f} ({relations} relations, n {n}, {sizes})",
                }
            )  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
