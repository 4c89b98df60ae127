"""Prior-dose experiments simulated from logits: a base, an update that moves its belief, an adapter on top, read as they stand.

Nothing of the packages decides an outcome. A model here is a row of logits, y_pre first and y_doc second, then other tokens.
The update of an item's belief raises y_pre and lowers y_doc by half the dose each; a placebo raises two other tokens so. Every
update adds to what the adapter pushes an error that grows with its size, and shrinks it a little, as any update would. Adapters:

    shift      adds a constant to y_doc, whatever the base says
    level      puts y_doc a constant above y_pre as it stands: what the base believes no longer matters
    growing    adds a constant and half of the base's margin
    falling    adds a constant less half of the base's margin
    bending    adds a constant, less half of what the base's margin is raised by, or less half of what it is lowered by
    opposites  adds a constant, less half of the base's margin where the net margin is high, and half of it where it is low
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.readings import RunFrame
from tests.simulated_worlds import cluster_sizes, normal_quantile

TRUTHS = {"shift": 1.0, "growing": 0.5, "level": 0.0, "falling": 1.5}
"""The pass-through of each adapter: of a nat added to the prior margin, what reaches the adapted model's."""
DOSES = (-4.0, -2.0, 0.0, 2.0, 4.0, 8.0)
TOKENS = 12


@dataclass(frozen=True)
class Experiment:
    """One experiment: its size, its adapter, and what disturbs it, in nats."""

    items: int = 60
    points: int = 40
    relations: int = 12
    passes: float = 1.0
    """Pass-through: how much of what is added to the prior margin reaches the adapted margin."""
    opposite: float = 0.0
    """Added to the pass-through of items that succeed, taken from that of items that fail."""
    lower: float = 0.0
    """Taken from the pass-through of the half of the items with the lower net margin."""
    bend: float = 0.0
    """Added to the pass-through where the prior is raised, taken from that where it is lowered."""
    sd: float = 4.0
    """Of the net margin without a dose, over items."""
    icc: float = 0.3
    """Share of the variance of margins and of pass-through that is between relations."""
    point_icc: float = 0.2
    """The share between points of one relation."""
    sizes: str = "equal"
    """Points of a relation: equal, or by a Pareto law."""
    varies: float = 0.15
    """Standard deviation of the pass-through over items."""
    noise: float = 0.3
    shrink: float = 0.05
    """What any update takes from the adapter's margin per nat of its dose, own or placebo."""
    unreached: float = 6.0
    """A dose above this is not reached where the prior margin is above it by more than 6; infinite: all are reached."""
    kept_up: float = 0.0
    """Share of the items that say y_doc under the own update whatever the margin, of those that say it without a dose."""


def drawn(rng: np.random.Generator, world: Experiment) -> tuple[np.ndarray, np.ndarray]:
    """Relation and point of each item: points in relations of these sizes, at least one item a point."""
    relation_of_point = np.repeat(
        np.arange(world.relations), cluster_sizes(rng, world.relations, max(world.relations, world.points), world.sizes)
    )
    points = len(relation_of_point)
    point = np.concatenate([np.arange(points), rng.integers(0, points, max(0, world.items - points))])
    point = np.sort(rng.permutation(point)[: world.items])
    return relation_of_point[point], point


def varied(rng: np.random.Generator, world: Experiment, relation: np.ndarray, point: np.ndarray) -> np.ndarray:
    """A normal number of unit variance per item, alike within relations and points as the world says."""
    return (
        np.sqrt(world.icc) * rng.normal(size=relation.max() + 1)[relation]
        + np.sqrt(world.point_icc) * rng.normal(size=point.max() + 1)[point]
        + np.sqrt(1 - world.icc - world.point_icc) * rng.normal(size=len(point))
    )


def experiment(rng: np.random.Generator, world: Experiment) -> RunFrame:
    """The run: readings of the items as they are, and the table of the experiment."""
    relation, point = drawn(rng, world)
    n = len(point)
    prior = 6.0 + 2.0 * varied(rng, world, relation, point)
    net = 1.0 + world.sd * varied(rng, world, relation, point)
    passes = world.passes + world.varies * varied(rng, world, relation, point)
    passes = passes + np.where(net > np.median(net), world.opposite, -world.opposite)
    passes = passes - np.where(net > np.median(net), 0.0, world.lower)
    stays = (
        (varied(rng, world, relation, point) < normal_quantile(world.kept_up)) & (net > 0)
        if world.kept_up
        else net < -np.inf
    )
    base = rng.normal(-4.0, 1.0, (n, TOKENS))
    base[:, 0], base[:, 1] = prior / 2, -prior / 2
    rows = []
    for arm in ("own", "placebo"):
        for dose in DOSES:
            reached = ~((dose > 4) & (prior > world.unreached + 6)) if arm == "own" else np.ones(n, dtype=bool)
            moved = np.where(reached, dose + rng.uniform(-0.1, 0.1, n), 0.6 * dose) * (dose != 0)
            if arm == "placebo":
                moved = 0.04 * dose * rng.normal(size=n)
            f = base.copy()
            f[:, 0] += moved / 2
            f[:, 1] -= moved / 2
            if arm == "placebo":
                f[:, 2:4] += abs(dose) / 4
            # what the adapter adds: so much that of `moved` the share `passes` reaches the adapted margin
            wobble = (rng.normal(0, world.noise, n) - world.shrink * abs(dose)) * (dose != 0)
            margin = prior + net + (1 - passes - np.sign(dose) * world.bend) * moved + wobble
            g = f.copy()
            g[:, 1] += 0.8 * margin
            g[:, 0] -= 0.2 * margin
            rows += readings_of(arm, dose, reached, moved, f, g, relation, point, stays)
    table = pd.concat(rows, ignore_index=True)
    delivered = table[(table["arm"] == "own") & (table["dose"] == 0) & (table["condition"] == "as-delivered")]
    return RunFrame(manifest(), as_readings(delivered), extra={"prior_dose": table.drop(columns="cluster")})


def readings_of(arm, dose, reached, moved, f, g, relation, point, stays) -> list[pd.DataFrame]:
    """The rows of one arm and dose under the base and as delivered, read from the logits."""
    tables = []
    for name, z in (("base", f), ("as-delivered", g)):
        cost = name == "base" and dose != 0
        push, pull = z[:, 1] - f[:, 1], z[:, 0] - f[:, 0]
        top1 = z.argmax(1) == 1
        if name == "as-delivered" and dose > 0 and arm == "own":
            top1 = top1 | stays
        tables.append(
            pd.DataFrame(
                {
                    "item": [f"i{k:05d}" for k in range(len(f))], "point": [f"p{k:04d}" for k in point],
                    "cluster": [f"r{k:03d}" for k in relation], "split": "conflict", "arm": arm, "dose": dose,
                    "reached": reached, "update_gain": abs(dose) / 4, "moved": moved, "condition": name,
                    "prior_margin": f[:, 0] - f[:, 1], "push": push, "pull": pull, "adapter_margin": push - pull,
                    "net_margin": z[:, 1] - z[:, 0], "net_margin_base_norm": 1.2 * (z[:, 1] - z[:, 0]),
                    "success_top1": top1, "top_token": "token",
                    "kept": 0.99 if cost else None, "kl": 0.01 * abs(dose) if cost else None,
                    "others_moved": 0.8 * moved, "n_others": 2, "old_lead": 3 + 0.25 * moved,
                }
            )
        )  # fmt: skip
    return tables


def as_readings(rows: Any) -> pd.DataFrame:
    """The readings of the same items as delivered, known to the base."""
    kept = [
        "item",
        "point",
        "cluster",
        "split",
        "prior_margin",
        "push",
        "pull",
        "adapter_margin",
        "net_margin",
        "success_top1",
    ]
    return rows[kept].assign(
        condition="as-delivered", known=True, status="ok", prior_logprob=-0.1, success_margin=rows["net_margin"] > 0,
        error=None,
    )  # fmt: skip


def manifest() -> dict:
    """The little of a manifest that an analysis looks at."""
    return {"conditions": ["base", "as-delivered"], "complete": True, "probes": ["margins", "prior-dose"]}


def of_truth(name: str, **changes) -> Experiment:
    """An experiment with the adapter of that name."""
    if name in ("opposites", "bending"):
        return replace(Experiment(opposite=0.5) if name == "opposites" else Experiment(bend=0.5), **changes)
    return replace(Experiment(passes=TRUTHS[name]), **changes)
