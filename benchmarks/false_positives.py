"""How often each test says "supported" at the edge of its null, over simulated audits of facts that come in relations.

Each hypothesis is tested alone, without Holm's correction, on readings whose truth is exactly at the bound that the claim has
to pass (`tests/simulated_worlds.py`). A test of level 5% should then say "supported" in at most 5% of audits. A row pools
worlds of 15 and 40 relations of equal and of Pareto size, with 100 and 600 questions (H6: 60 and 200), and counts the audits in
which the test could be made.

    python -m benchmarks.false_positives [AUDITS PER CELL [TEST...]] > docs/calibration/false_positives.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses import pass_through
from override_gap.analyses.calibration import markdown
from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.constancy import BOUND
from override_gap.analyses.dose_slopes import BOUND as DOSE_BOUND
from override_gap.analyses.hypotheses import STANDARD, evaluate
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.stats.intervals import wilson
from tests.simulated_doses import Experiment, experiment
from tests.simulated_worlds import (
    CONDITIONS,
    Acts,
    Facts,
    RelationWorld,
    as_run,
    facts,
    normal_quantile,
    priced_run,
    uniform,
)

LEVEL = 0.05
SAID, RESCUED = 0.80, 0.50
ICC, RELATIONS, N, SIZES = (0.0, 0.5), (15, 40), (100, 600), ("equal", "pareto")
DOSED = (60, 200)
"""Questions of an experiment on the prior, each of which is read under five doses."""
BY_ID = {hypothesis.id: hypothesis for hypothesis in STANDARD}


def at_gains(holds: Callable[[float], np.ndarray]) -> dict[str, np.ndarray]:
    """Success under every condition, from its gain."""
    return {name: holds(gain) for name, gain in CONDITIONS.items()}


def below(drawn: Facts, share: float, world: RelationWorld) -> np.ndarray:
    """A trait of a share of questions that is independent of the prior and as alike in a relation as the margins are."""
    return drawn.adapter - 3.0 < world.sd * normal_quantile(share)


def unrelated(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
    """H1: whether a question fails has nothing to do with its prior, and both are alike within a relation."""
    drawn = facts(rng, world)
    return as_run(drawn, at_gains(lambda _: below(drawn, 0.5, world)))


def passes_on(share: float) -> Callable[[np.random.Generator, RelationWorld], RunFrame]:
    """H2 without training frequency: of the base's margin this share passes through the adapter, all questions known."""

    def draw(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
        return as_run(facts(rng, replace(world, tie=1 - share)), frequency=np.nan)

    return draw


def passes_on_a_belief(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
    """H2 by other wordings: what passes on is 1 - `pass_through.BOUND` of a belief, which each wording reads with noise."""
    drawn = facts(rng, world)
    noise = rng.normal(0, world.sd / 2, (2, len(drawn.point)))
    # One belief a point, alike within a relation; its wordings and the adapter add their own noise.
    relation = rng.normal(size=drawn.relation.max() + 1)[drawn.relation]
    point = rng.normal(size=drawn.point.max() + 1)[drawn.point]
    belief = 3.0 + world.sd * (np.sqrt(world.icc) * relation + np.sqrt(1 - world.icc) * point)
    prior = belief + noise[0]
    adapted = (1 - pass_through.BOUND) * (belief - 3.0) + noise[1]
    question = [f"question {number}" for number in range(len(prior))]
    return as_run(replace(drawn, prior=prior, adapter=prior - adapted), frequency=np.nan, question=question)


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
    fails = np.ones(len(drawn.prior), dtype=bool)
    return searched(as_run(drawn, at_gains(lambda _: ~fails)), fails, below(drawn, RESCUED, world))


def half_of_failures_rescued(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
    """H4: a question fails where its prior margin is the larger, and half of these are rescued by a larger gain.

    Relations with many failures then have those that are hard to rescue.
    """
    drawn = facts(rng, world)
    fails = drawn.adapter < drawn.prior
    return searched(as_run(drawn), fails, median_gain() * drawn.adapter > drawn.prior)


@lru_cache(maxsize=1)
def median_gain() -> float:
    """The gain that half of the failures need, from one draw of very many independent questions."""
    world = RelationWorld(relations=2, n=400_000, sizes="equal", icc=0.0, point_icc=0.0)
    drawn = facts(np.random.default_rng(0), world)
    prior, adapter = (margin[drawn.adapter < drawn.prior] for margin in (drawn.prior, drawn.adapter))
    return float(np.median(np.where(adapter > 0, prior / np.where(adapter > 0, adapter, 1.0), np.inf)))


def searched(run: RunFrame, fails: np.ndarray, rescued: np.ndarray) -> RunFrame:
    """The run with a search of its failures: with content at gain 2 where rescued, else broken at 4 without content."""
    rows = run.select("conflict", "as-delivered")[fails][["item", "point", "split", "condition"]]
    measured = {"pull": -1.0, "rise_rank_base": 1.0, "doc_place": 5, "push_excess": 1.0, "other_answers": 100}
    measured |= {"push": 1.0, "kl": 0.05, "kept": 1.0, "broken": False, "success_answer": None}
    yes = rescued[fails]
    tables = [
        rows.assign(gain=2.0, net_margin=np.where(yes, 1.0, -1.0), success_top1=yes, rise_rank=np.where(yes, 1.0, 0.5)),
        rows[~yes].assign(gain=4.0, net_margin=np.nan, success_top1=False, rise_rank=0.5),
    ]
    tables = [table.assign(**measured) for table in tables]
    tables[1] = tables[1].assign(broken=True)
    return RunFrame(run.manifest, run.readings, search=pd.concat(tables, ignore_index=True))


BETTER = Acts(3.0, 1.25, 1.25)
RANDOM = {"random-layers": uniform(1.25), "random-matched": uniform(1.25)}


def layers(slb: Acts) -> Callable[[np.random.Generator, RelationWorld], RunFrame]:
    """H5: slb acts like these uniform gains on conflicts, on unrelated answers and on KL, beside random layers."""
    return lambda rng, world: priced_run(rng, world, {"slb": slb, **RANDOM})


def dosed(**truth: Any) -> Callable[[np.random.Generator, RelationWorld], RunFrame]:
    """H6: an experiment of this truth in a world's relations, with 1.5 questions a point."""

    def draw(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
        points = round(world.n / 1.5)
        return experiment(rng, Experiment(world.n, points, world.relations, icc=world.icc, sizes=world.sizes, **truth))

    return draw


def exchanged_by_coin(rng: np.random.Generator, world: RelationWorld) -> RunFrame:
    """Paired test: the successes of two conditions are exchanged with probability 1/2 per relation."""
    drawn = facts(rng, world)
    swapped = (rng.random(world.relations) < 0.5)[drawn.relation]
    two, three = (gain * drawn.adapter > drawn.prior for gain in (1.0, 2.0))
    success = {"uniform-2": np.where(swapped, three, two), "uniform-3": np.where(swapped, two, three)}
    return as_run(drawn, success)


def supported(name: str) -> Callable[[RunFrame], bool | None]:
    """Whether a hypothesis, tested alone, is supported; None where it cannot be tested."""

    def tested(run: RunFrame) -> bool | None:
        status = evaluate(run, [BY_ID[name]])[0].status
        return None if status == "not testable" else status == "supported"

    return tested


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
    rejects: Callable[[RunFrame], bool | None]
    holds: bool = False
    """Whether the claim is true here: the row then says how often a true claim is supported."""
    n: tuple[int, ...] = N
    """Questions of a world."""


NULLS = (
    Null("H1", "failure has nothing to do with the prior", unrelated, supported("H1")),
    Null("H2", f"adapter slope = {BOUND:g} x prior slope", at_the_bound, supported("H2")),
    Null("H2", f"pass-through {1 - pass_through.BOUND:g}", passes_on(1 - pass_through.BOUND), supported("H2")),
    Null("H2", f"pass-through {1 + pass_through.BOUND:g}", passes_on(1 + pass_through.BOUND), supported("H2")),
    Null(
        "H2",
        f"pass-through {1 - pass_through.BOUND:g}, by other wordings",
        passes_on_a_belief,
        supported("H2"),
    ),
    Null("H3", f"answers follow the criterion with P = {SAID:g}", follows_criterion, supported("H3")),
    Null("H4", f"{RESCUED:.0%} of questions rescued", half_rescued, supported("H4")),
    Null("H4", "half of failures rescued, fewer where many fail", half_of_failures_rescued, supported("H4")),
    Null("H5", "slb is uniform 1.75 in disguise", layers(uniform(1.75)), supported("H5")),
    Null("H5", "slb loses what uniform 1.75 loses, at the KL of 1.25", layers(Acts(1.75, 1.75, 1.25)), supported("H5")),
    Null("H5", "slb costs the KL of 1.75, loses what 1.25 loses", layers(Acts(1.75, 1.25, 1.75)), supported("H5")),
    Null("H5", "slb overrides like uniform 3 at the cost of 1.25", layers(BETTER), supported("H5"), holds=True),
    Null("H6", f"pass-through {1 - DOSE_BOUND:g}", dosed(passes=1 - DOSE_BOUND), supported("H6"), n=DOSED),
    Null("H6", f"pass-through {1 + DOSE_BOUND:g}", dosed(passes=1 + DOSE_BOUND), supported("H6"), n=DOSED),
    Null(
        "H6",
        f"pass-through {1 - DOSE_BOUND:g} and {1 + DOSE_BOUND:g} in halves by net margin, 1 on average",
        dosed(opposite=DOSE_BOUND),
        supported("H6"),
        n=DOSED,
    ),
    Null(
        "H6",
        f"pass-through {1 - DOSE_BOUND:g} in the half of lower net margin, else 1",
        dosed(lower=DOSE_BOUND),
        supported("H6"),
        n=DOSED,
    ),
    Null(
        "H6",
        f"{1 - DOSE_BOUND:.0%} of the failures predicted, pass-through 1",
        dosed(kept_up=DOSE_BOUND),
        supported("H6"),
        n=DOSED,
    ),
    Null("H6", "pass-through 1", dosed(), supported("H6"), holds=True, n=DOSED),
    Null("paired test", "conditions exchanged by a coin per relation", exchanged_by_coin, conditions_differ),
)


HEAD = """# How often is a false claim called supported?

A report calls a hypothesis *supported* when the data speak for it beyond chance. Here audits are simulated in which the claim
just fails to be true, and *supported* is the share of them in which the report would claim it all the same: at most about
0.05 is what the tests promise. Rows whose claim is true show how often a true claim is found. H1 to H6:
[hypotheses](../hypotheses.md); *icc*, how alike facts of one relation are, and the rest: [calibration](README.md).
"""


def main(audits: int = 100, *tests: str) -> None:
    """Print the table of false-positive rates."""
    rows = []
    for null in (null for null in NULLS if not tests or null.test in tests):
        for icc in ICC:
            cells = {}
            for relations in RELATIONS:
                for n in null.n:
                    for sizes in SIZES:
                        count = max(4, audits // 3) if null.test == "H5" else audits  # it resamples
                        world = RelationWorld(relations, n, sizes, icc)
                        rngs = (np.random.default_rng([seed, relations, n]) for seed in range(count))
                        found = [null.rejects(null.draw(rng, world)) for rng in rngs]
                        cells[relations, n, sizes] = [hit for hit in found if hit is not None]
            pooled = [hit for cell in cells.values() for hit in cell]
            low, high = wilson(sum(pooled), len(pooled))
            worst = min if null.holds else max
            most, (relations, n, sizes) = worst((float(np.mean(cell)), name) for name, cell in cells.items() if cell)
            rows.append(
                {
                    "test": null.test,
                    "truth": null.truth,
                    "claim": "true" if null.holds else "false",
                    "icc": icc,
                    "supported": f"{np.mean(pooled):.3f}",
                    "low": f"{low:.3f}",
                    "high": f"{high:.3f}",
                    "audits": len(pooled),
                    "worst cell": f"{most:.2f} ({relations} relations, n {n}, {sizes})",
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    print(HEAD)
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main(int((sys.argv[1:2] or [100])[0]), *sys.argv[2:])
