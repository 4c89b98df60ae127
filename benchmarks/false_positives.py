"""How often each test says "supported" at the edge of its null, over simulated audits of 194 questions on 72 points.

Each hypothesis is tested alone, without Holm's correction, on readings whose truth is exactly at the bound that the claim has
to pass. A test of level 5% should then say "supported" in at most 5% of audits.

    python benchmarks/false_positives.py [AUDITS] > docs/calibration/false_positives.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from override_gap.analyses.calibration import markdown
from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.constancy import BOUND
from override_gap.analyses.hypotheses import RESCUED, SAID_RIGHT, STANDARD, evaluate
from override_gap.analyses.readings import RunFrame, truth
from override_gap.analyses.stats.intervals import wilson
from tests.simulate import World, simulate_readings

LEVEL = 0.05
LIGHT = ("base", "as-delivered", "uniform-1.5", "uniform-2", "uniform-3")
FULL = (*LIGHT, "slb", "random-layers", "random-matched")
BY_ID = {hypothesis.id: hypothesis for hypothesis in STANDARD}


@dataclass(frozen=True)
class Null:
    """A test, the truth at the edge of its null in words, and how to simulate readings from it."""

    test: str
    truth: str
    draw: Callable[[int], RunFrame]
    rejects: Callable[[RunFrame], bool]


def supported(name: str) -> Callable[[RunFrame], bool]:
    """Whether a hypothesis, tested alone, is supported."""
    return lambda run: evaluate(run, [BY_ID[name]])[0].status == "supported"


def simulated(seed: int, fault: str, **settings) -> RunFrame:
    """One simulated audit, conflicts only."""
    return simulate_readings(seed, fault=fault, conditions=LIGHT, others=0, with_layers=False, **settings)


def at_the_bound(seed: int) -> RunFrame:
    """The adapter margin's slope on log frequency is exactly `BOUND` of the prior margin's."""
    run = simulated(seed, "magnitude")
    readings, slope = run.readings, World().slope
    rise = BOUND * slope * np.log(readings["frequency"].astype(float))
    delivered = readings["condition"] == "as-delivered"
    margin = readings["adapter_margin"].astype(float)
    return RunFrame(run.manifest, readings.assign(adapter_margin=margin.where(~delivered, margin + rise)))


def answers_follow_the_bound(seed: int) -> RunFrame:
    """The greedy answer follows the criterion with probability exactly `SAID_RIGHT`, question by question."""
    run = simulated(seed, "magnitude")
    rng = np.random.default_rng([seed, 1])
    override = truth(run.readings["success_margin"])
    follows = rng.random(len(override)) < SAID_RIGHT
    return RunFrame(run.manifest, run.readings.assign(success_answer=np.where(follows, override, 1 - override) == 1))


def half_rescued(seed: int) -> RunFrame:
    """Each knowledge point is rescued at gain 2 with probability `RESCUED`, the others at no gain; no success by chance."""
    run = simulated(seed, "magnitude", world=World(third=0.0))
    readings = run.readings
    rng = np.random.default_rng([seed, 2])
    points = sorted(readings["point"].unique())
    rescued_points = set(np.array(points)[rng.random(len(points)) < RESCUED])
    rescued = readings["point"].isin(rescued_points).to_numpy()
    delivered = (readings["condition"] == "as-delivered").to_numpy()
    success = readings.loc[delivered].set_index("item")["success_top1"]
    failing = ~readings["item"].map(success).to_numpy(dtype=bool)
    scaled = readings["condition"].str.startswith("uniform").to_numpy()
    top1 = np.where(failing & scaled, rescued, readings["success_top1"]).astype(bool)
    gain = np.where(failing & delivered, np.where(rescued, 2.0, np.inf), readings["critical_gain"].astype(float))
    return RunFrame(run.manifest, readings.assign(success_top1=top1, critical_gain=gain, top_token="prior"))


def conditions_differ(run: RunFrame) -> bool:
    """Whether the two-sided paired test finds a difference between uniform-2 and uniform-3."""
    difference = comparison.conditions(run, "uniform-2", "uniform-3")
    return difference is not None and difference.p < LEVEL


def exchanged_by_coin(seed: int) -> RunFrame:
    """Two conditions whose successes are exchanged with probability 1/2 per knowledge point: no difference in expectation."""
    run = simulated(seed, "magnitude")
    readings = run.readings
    rng = np.random.default_rng([seed, 3])
    points = sorted(readings["point"].unique())
    swapped = readings["point"].isin(set(np.array(points)[rng.random(len(points)) < 0.5])).to_numpy()
    two, three = ((readings["condition"] == name).to_numpy() for name in ("uniform-2", "uniform-3"))
    success = readings["success_top1"].to_numpy(dtype=bool)
    exchanged = success.copy()
    exchanged[two & swapped], exchanged[three & swapped] = success[three & swapped], success[two & swapped]
    return RunFrame(run.manifest, readings.assign(success_top1=exchanged))


NULLS = (
    Null("H1", "failure has nothing to do with the prior", lambda s: simulated(s, "flat"), supported("H1")),
    Null("H2", f"adapter slope = {BOUND:g} x prior slope", at_the_bound, supported("H2")),
    Null("H3", f"answers follow the criterion with P = {SAID_RIGHT:g}", answers_follow_the_bound, supported("H3")),
    Null("H4", f"{RESCUED:.0%} of points rescued", half_rescued, supported("H4")),
    Null(
        "H5",
        "slb is a uniform gain in disguise",
        lambda s: simulate_readings(s, conditions=FULL, others=240, with_layers=False),
        supported("H5"),
    ),
    Null("paired test", "conditions exchanged by a coin", exchanged_by_coin, conditions_differ),
)


def main(audits: int = 1000) -> None:
    """Print the table of false-positive rates."""
    rows = []
    for null in NULLS:
        count = max(100, audits // 5) if null.test == "H5" else audits  # it resamples, which takes ten times as long
        rejections = sum(null.rejects(null.draw(seed)) for seed in range(count))
        low, high = wilson(rejections, count)
        row = {"test": null.test, "truth": null.truth, "supported": f"{rejections / count:.3f}"}
        rows.append({**row, "low": f"{low:.3f}", "high": f"{high:.3f}", "audits": count})
        print(f"{null.test}: {rejections} of {count}", file=sys.stderr, flush=True)
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
