"""Simulated audits of facts that come in relations, made from the definitions alone; nothing of the packages decides an outcome.

A world draws relations; a relation has a number of points from an equal, lognormal or Pareto law, and a point one or more
questions. Prior and adapter margin of a question are normal: mean + relation + point + question, with the stated shares of
the variance, so that the shares are the intraclass correlations. y_doc beats y_pre where the adapter margin times the gain
exceeds the prior margin. All margins are in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.readings import RunFrame

CONDITIONS = {"base": 0.0, "as-delivered": 1.0, "uniform-1.5": 1.5, "uniform-2": 2.0, "uniform-3": 3.0}


@dataclass(frozen=True)
class RelationWorld:
    """The law that a world of facts is drawn from.

    ``icc``: share of each margin's variance between relations; ``point_icc``: between points of one relation. ``success``: the
    probability that a conflict succeeds as delivered. ``tie``: correlation of the adapter margin with the prior margin,
    at all three levels (0: the adapter knows nothing of the prior). ``rise``: growth of the prior margin per unit of log
    frequency, of which the adapter margin takes the share ``pass_on``.
    """

    relations: int = 24
    n: int = 200
    sizes: str = "pareto"
    icc: float = 0.3
    point_icc: float = 0.2
    per_point: float = 2.0
    success: float = 0.5
    tie: float = 0.0
    rise: float = 0.0
    pass_on: float = 0.0
    sd: float = 2.0


def cluster_sizes(rng: np.random.Generator, count: int, total: int, law: str) -> np.ndarray:
    """How many of ``total`` cluster holds, at least one: equal, lognormal (sigma 1) or Pareto (exponent 1.2)."""
    weight = {
        "equal": lambda: np.ones(count),
        "lognormal": lambda: np.exp(rng.normal(0, 1, count)),
        "pareto": lambda: rng.uniform(size=count) ** (-1 / 1.2),
    }[law]()
    if law == "equal":
        return np.bincount(np.arange(total) % count, minlength=count)
    return 1 + rng.multinomial(total - count, weight / weight.sum())


@dataclass(frozen=True)
class Facts:
    """The questions of one draw: relation and point of each, log frequency, prior and adapter margin, and noise of level one."""

    relation: np.ndarray
    point: np.ndarray
    log_frequency: np.ndarray
    prior: np.ndarray
    adapter: np.ndarray
    luck: np.ndarray


def facts(rng: np.random.Generator, world: RelationWorld) -> Facts:
    """Draw relations, points and questions of a world."""
    points_in_all = max(world.relations, round(world.n / world.per_point))
    points_per_relation = cluster_sizes(rng, world.relations, points_in_all, world.sizes)
    relation_of_point = np.repeat(np.arange(world.relations), points_per_relation)
    questions_per_point = cluster_sizes(
        rng, points_in_all, max(world.n, points_in_all), "equal" if world.sizes == "equal" else "lognormal"
    )
    point = np.repeat(np.arange(points_in_all), questions_per_point)
    relation, n = relation_of_point[point], len(point)
    shares = np.sqrt([world.icc, world.point_icc, 1 - world.icc - world.point_icc])

    def varied() -> np.ndarray:
        """Unit variance, split over relation, point and question."""
        return (
            shares[0] * rng.normal(size=world.relations)[relation]
            + shares[1] * rng.normal(size=points_in_all)[point]
            + shares[2] * rng.normal(size=n)
        )

    common, own = varied(), varied()
    frequency = varied()
    prior = world.sd * common + world.rise * frequency
    free = np.sqrt(1 - world.tie**2)
    other = world.sd * (world.tie * common + free * own) + world.pass_on * world.rise * frequency
    net_variance = world.sd**2 * ((1 - world.tie) ** 2 + free**2) + (world.rise * (1 - world.pass_on)) ** 2
    net_sd = np.sqrt(net_variance)
    level = net_sd * normal_quantile(world.success)
    return Facts(relation, point, frequency, prior + 3.0, other + 3.0 + level, rng.uniform(size=n))


def normal_quantile(share: float) -> float:
    """z with Phi(z) = share."""
    return NormalDist().inv_cdf(share)


def as_run(
    world_facts: Facts,
    success: dict[str, np.ndarray] | None = None,
    split: str = "conflict",
    with_relation: bool = True,
    conditions: Mapping[str, float] = CONDITIONS,
    **columns: Any,
) -> RunFrame:
    """The draw as a run: y_doc first where gain times adapter margin exceeds the prior margin, unless ``success`` says."""
    n = len(world_facts.prior)
    names = np.array([f"r{number}" for number in world_facts.relation], dtype=object)
    tables = []
    for condition, gain in conditions.items():
        margin = gain * world_facts.adapter
        wins = margin > world_facts.prior
        top1 = wins if success is None or condition not in success else success[condition]
        table = pd.DataFrame(
            {
                "item": [f"{split}-{number:06d}" for number in range(n)],
                "point": [f"{split}-p{number}" for number in world_facts.point],
                "split": split,
                "condition": condition,
                "known": True,
                "prior_logprob": -np.log1p(np.exp(-world_facts.prior)),
                "prior_margin": world_facts.prior,
                "push": 0.5 * margin,
                "pull": -0.5 * margin,
                "adapter_margin": margin,
                "net_margin": margin - world_facts.prior,
                "success_margin": wins,
                "success_top1": top1.astype(bool),
                "success_answer": top1.astype(bool),
                "status": "ok",
                "error": None,
                "frequency": np.exp(world_facts.log_frequency),
                "answer": "document",
                "prior_answer": "old",
                "top_token": np.where(top1, "document", "old"),
                "critical_gain": None,
                "relation": names if with_relation else None,
                "cluster": names if with_relation else None,
            }
        )
        tables.append(table.assign(**columns))
    manifest = {"schema": 1, "conditions": list(conditions), "plan": {}, "adapters": {"static": True}, "complete": True}
    return RunFrame(manifest, pd.concat(tables, ignore_index=True))


@dataclass(frozen=True)
class Acts:
    """What a policy does, in uniform gains: that whose override it has, that whose answers it loses, that whose KL it costs."""

    override: float
    loses: float
    kl: float


def uniform(gain: float) -> Acts:
    """Uniform scaling costs what it is."""
    return Acts(gain, gain, gain)


def priced_run(rng: np.random.Generator, world: RelationWorld, policies: Mapping[str, Acts]) -> RunFrame:
    """Conflicts, unrelated questions and novel facts of one world, under the uniform gains and under these policies.

    An unrelated question is lost at a gain that is lognormal (median 5, sigma 1/2), and its KL to the base is the square of
    the gain times a lognormal factor (median 0.02 nats, sigma 1): both are as alike within a relation as the margins are.
    Novel facts are always recalled.
    """
    acts = {name: uniform(gain) for name, gain in CONDITIONS.items()} | dict(policies)
    conflict, other = facts(rng, world), facts(rng, world)
    wins = {name: act.override * conflict.adapter > conflict.prior for name, act in acts.items()}
    tolerance = 5.0 * np.exp((other.prior - 3.0) / world.sd / 2)
    scale = 0.02 * np.exp((other.adapter - other.adapter.mean()) / world.sd)
    conditions = {name: act.override for name, act in acts.items()}
    tables = [as_run(conflict, wins, conditions=conditions).readings]
    kept = {name: act.loses < tolerance for name, act in acts.items()}
    retained = as_run(other, kept, "retention", conditions=conditions).readings
    cost = np.concatenate([act.kl**2 * scale for act in acts.values()])
    tables.append(retained.assign(kl=cost))
    recalled = dict.fromkeys(acts, np.ones(len(other.prior), dtype=bool))
    tables.append(as_run(other, recalled, "novel", conditions=conditions).readings)
    manifest = as_run(conflict).manifest | {"conditions": list(acts)}
    return RunFrame(manifest, pd.concat(tables, ignore_index=True))


def grid(
    relations: Sequence[int] = (15, 40),
    n: Sequence[int] = (50, 200, 2000),
    icc: Sequence[float] = (0.0, 0.2, 0.5),
    sizes: Sequence[str] = ("equal", "lognormal", "pareto"),
    **more: Any,
) -> list[RelationWorld]:
    """Worlds of every combination."""
    return [RelationWorld(r, k, law, i, **more) for r in relations for k in n for i in icc for law in sizes]
