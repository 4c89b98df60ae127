"""Readings simulated from a known truth, against which the statistics are checked; no model is run.

Mainly the conflict items of one audit. Facts (points) have log-uniform training counts, and the prior margin grows with the
count; the adapter margin depends on the planted ``fault`` and is multiplied by the gain. All constants are in ``World``, so a
very large simulation gives the true value of any statistic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from override_gap.analyses.readings import RunFrame, Table, gain_of

FAULTS = (
    "magnitude",  # constant adapter margin, right direction: a larger gain repairs it
    "no-failure",  # amplified beforehand
    "wrong-content",  # a third token is pushed: no gain repairs it
    "wrong-direction",  # no push at all
    "saturating",  # stops growing at the delivered gain
    "mixture",  # a share of the points wrong-content, the others magnitude
    "growing",  # adapter margin grows with the prior (against H2)
    "flat",  # failure has nothing to do with the prior (null of H1)
    "reversed",  # failure is rarer where the prior is stronger (against H1)
    "broken-criterion",  # what the model answers has nothing to do with the margin (against H3)
)
SPECIFICITIES = ("none", "chosen", "worse")
POLICIES = [
    "slb",
    "ca",
    "ca-slb",
    "random-layers",
    "bottom-layers",
    "random-matched",
    "relevance-gate",
    "margin-matched",
    "logit-fusion-1.5",
    "in-context",
    "in-context-instructed",
]
CONDITIONS = ("base", "as-delivered", "uniform-1.25", "uniform-1.5", "uniform-2", "uniform-3", *POLICIES)


@dataclass(frozen=True)
class World:
    """Constants of the simulated audit, in nats and in log training counts."""

    intercept: float = -1.0
    slope: float = 1.3
    point_sd: float = 0.6
    item_sd: float = 0.8
    adapter: float = 4.0
    third: float = 0.03
    answer_flip: float = 0.02
    max_gain: float = 4.0
    log_count: float = 6.9
    layers: int = 8
    answers: int = 40


# Effective gain of a policy on (conflicts, other questions); with equal numbers it is no better than a uniform gain.
GAINS = {
    "random-layers": (1.15, 1.15),
    "bottom-layers": (1.03, 1.05),
    "random-matched": (1.4, 1.4),
    "ca": (1.8, 1.8),
    "ca-slb": (1.9, 1.9),
    "relevance-gate": (1.4, 0.2),
    "margin-matched": (2.5, 2.5),
    "logit-fusion-1.5": (1.5, 1.5),
}
SLB = {"none": (1.6, 1.6), "chosen": (2.2, 1.2), "worse": (1.1, 2.2)}


def simulate_readings(
    seed: int = 0,
    points: int = 72,
    questions: int = 194,
    fault: str = "magnitude",
    *,
    share: float = 0.5,
    specificity: str = "none",
    conditions: Sequence[str] = CONDITIONS,
    others: int = 60,
    errors: int = 0,
    with_layers: bool = True,
    frequency: bool = True,
    world: World | None = None,
) -> RunFrame:
    """One simulated audit.

    ``share`` is the wrong-content share of a mixture, ``others`` the number of novel and of retention items, ``errors`` the
    number of conflict items that could not be measured.
    """
    if fault not in FAULTS:
        raise ValueError(f"{fault!r} is not a planted fault; known: {', '.join(FAULTS)}")
    if specificity not in SPECIFICITIES:
        raise ValueError(f"{specificity!r} is not a specificity; known: {', '.join(SPECIFICITIES)}")
    if not 1 <= points <= questions:
        raise ValueError(f"{questions} questions cannot cover {points} points; give at least one question per point")
    world = world or World()
    rng = np.random.default_rng([seed, points, questions])
    items = conflicts(rng, points, questions, fault, share, world)
    extra = [other_items(rng, split, others, world) for split in ("novel", "retention")] if others else []
    items = pd.concat([items, *extra], ignore_index=True)
    readings = pd.concat(
        [readings_under(rng, items, name, fault, specificity, world) for name in conditions], ignore_index=True
    )
    if errors:
        failed = items.loc[items["split"] == "conflict", "item"].tail(errors)
        readings = with_errors(readings, failed)
    if not frequency:
        readings["frequency"] = None
    layers = layer_readings(rng, items, conditions, world) if with_layers else pd.DataFrame()
    return RunFrame(manifest(seed, fault, share, specificity, conditions, items, world), readings, layers)


def conflicts(rng, points: int, questions: int, fault: str, share: float, world: World) -> Table:
    """Conflict items with prior margin, adapter margin and the effect of a larger gain on them."""
    extra = rng.multinomial(questions - points, np.full(points, 1 / points))
    point = np.repeat(np.arange(points), 1 + extra)
    log_count = rng.uniform(0, world.log_count, points)[point]

    def noise(sd_point: float, sd_item: float) -> np.ndarray:
        return rng.normal(0, sd_point, points)[point] + rng.normal(0, sd_item, questions)

    prior = world.intercept + world.slope * log_count + noise(world.point_sd, world.item_sd)
    variation = noise(world.point_sd, world.item_sd)
    constant = world.adapter + 0.9 * variation
    adapter = {
        "no-failure": 16 + variation,
        "wrong-direction": 0.3 * variation,
        "growing": 1.2 + 0.75 * prior + 0.9 * variation,
        "flat": prior + 0.3 + 1.2 * variation,
        "reversed": 2.0 * prior - 3.5 + 0.9 * variation,
    }.get(fault, constant)
    wrong = rng.random(points)[point] < {"mixture": share, "wrong-content": 1.0}.get(fault, 0.0)
    answer = rng.integers(world.answers, size=points)[point]
    rival = rng.integers(world.answers, size=points)[point]  # the answer of another document
    third = (rng.random(questions) < world.third) | (wrong & (rival != answer))
    push = 0.6 * adapter + 0.3 * rng.normal(size=questions)
    return pd.DataFrame(
        {
            "item": [f"c{number:06d}" for number in range(questions)],
            "point": [f"p{number:05d}" for number in point],
            "split": "conflict",
            "tier": np.array(["light", "medium", "deep"])[np.minimum((3 * log_count / world.log_count).astype(int), 2)],
            "frequency": np.exp(log_count),
            "known": (prior > 0) & (rng.random(questions) > 0.03),
            "prior_logprob": -np.logaddexp(0, 1.0 - 0.8 * prior + 0.3 * rng.normal(size=questions)),
            "prior_margin": prior,
            "adapter_one": adapter,
            "push_one": push,
            "third": third,
            "flip": rng.random(questions) < world.answer_flip,
            "luck": rng.random(questions),
            "bend": np.exp(0.05 * rng.normal(size=questions)),
            "tolerance": np.inf,
            "answer": [f"answer-{number:03d}" for number in answer],
            "rival": [f"answer-{number:03d}" for number in rival],
        }
    )


def other_items(rng, split: str, count: int, world: World) -> Table:
    """Novel items (won by a larger gain) or retention items (lost by it); two questions per point."""
    prior = rng.normal(2 if split == "novel" else 5, 1.0, count)
    needed = np.exp(rng.normal(-0.7, 0.42, count))  # gain at which a novel fact is answered: 95% below 1
    tolerance = np.exp(rng.normal(1.5, 0.75, count))  # gain at which an unrelated answer is lost: 2% below 1
    adapter = prior / needed if split == "novel" else 0.3 * rng.normal(size=count)
    return pd.DataFrame(
        {
            "item": [f"{split[0]}{number:06d}" for number in range(count)],
            "point": [f"{split}-{number // 2:05d}" for number in range(count)],
            "split": split,
            "tier": None,
            "frequency": np.nan,
            "known": True,
            "prior_logprob": -np.logaddexp(0, -0.8 * prior),
            "prior_margin": prior,
            "adapter_one": adapter,
            "push_one": 0.6 * adapter,
            "third": False,
            "flip": False,
            "luck": rng.random(count),
            "bend": 1.0,
            "tolerance": tolerance if split == "retention" else np.inf,
            "answer": "document",
            "rival": "other",
        }
    )


def effective_gain(condition: str, specificity: str) -> tuple[float, float]:
    """Effective gain on conflicts and novel facts, and on unrelated questions."""
    gain = gain_of(condition)
    if gain is not None:
        return gain, gain
    return SLB[specificity] if condition == "slb" else GAINS.get(condition, (1.0, 0.0))


def readings_under(rng, items: Table, condition: str, fault: str, specificity: str, world: World) -> Table:
    """All items under one condition, as rows of the readings table."""
    on_topic, off_topic = effective_gain(condition, specificity)
    retention = (items["split"] == "retention").to_numpy()
    gain = np.where(retention, off_topic, on_topic)
    reach = np.minimum(gain, 1.0) if fault == "saturating" else gain
    prior = items["prior_margin"].to_numpy()
    margin = reach * items["adapter_one"].to_numpy()
    flips = margin > prior
    correct = flips & ~items["third"].to_numpy()
    if fault == "broken-criterion":
        correct = np.where(retention, correct, (items["luck"].to_numpy() < 0.5) & (gain > 0))
    if condition.startswith("in-context"):
        correct = rng.random(len(items)) < (0.85 if condition.endswith("instructed") else 0.64)
    top1 = np.where(retention, gain <= items["tolerance"].to_numpy(), correct)
    answer = np.where(items["flip"], ~top1, top1)
    rows = items[["item", "point", "split", "tier", "known", "prior_logprob", "prior_margin", "frequency"]].copy()
    no_adapter = condition.startswith("in-context")
    rows = rows.assign(
        condition=condition,
        prior_logprob_per_token=rows["prior_logprob"],
        adapter_margin=None if no_adapter else margin,
        push=None if no_adapter else reach * items["push_one"],
        pull=None if no_adapter else reach * (items["push_one"] - items["adapter_one"]),
        net_margin=None if no_adapter else margin - prior,
        success_margin=None if no_adapter else np.where(retention, top1, flips),
        success_top1=top1.astype(bool),
        success_answer=answer.astype(bool),
        success_answer_substring=answer.astype(bool),
        answer_text=np.where(answer, "document", "prior"),
        base_top_token="prior",
        base_top_prob=np.exp(items["prior_logprob"]),
        gain_mean=None if no_adapter else gain,
        adapter_norm=None if no_adapter else gain,
        n_question_tokens=12,
        status="ok",
        error=None,
        wording="plain",
        top_token=np.where(top1, items["answer"], np.where(flips, items["rival"], "prior")),
        top_prob=0.5,
        question="Which?",
        document="It says.",
        answer=items["answer"].to_numpy(),
        prior_answer="prior",
        doc_logprob=-np.logaddexp(0, prior - margin),
        critical_gain=None,
        critical_gain_predicted=None,
    )
    if condition == "as-delivered":
        rows = rows.assign(**critical(items, fault, world))
    return rows


def critical(items: Table, fault: str, world: World) -> dict[str, np.ndarray]:
    """Predicted and measured critical gain of every item; infinity where none in range."""
    adapter = items["adapter_one"].to_numpy()
    prior = items["prior_margin"].to_numpy()
    predicted = np.where(adapter > 0, prior / np.where(adapter > 0, adapter, 1.0), np.inf)
    measured = np.maximum(0.0, predicted) * items["bend"].to_numpy()
    # `bend` makes the response slightly non-linear; it must not move an item across gain 1.
    measured = np.where(predicted < 1, np.minimum(measured, 1.0), np.maximum(measured, 1.0))
    never = items["third"].to_numpy() | (measured > (1.0 if fault == "saturating" else world.max_gain))
    if fault == "broken-criterion":
        never = items["luck"].to_numpy() >= 0.5
    measured = np.where(never, np.inf, measured)
    off = items["split"].to_numpy() == "retention"
    return {
        "critical_gain": np.where(off, np.nan, measured),
        "critical_gain_predicted": np.where(off, np.nan, predicted),
    }


def with_errors(readings: Table, failed: Table) -> Table:
    """The readings with some items not measured under any condition."""
    bad = readings["item"].isin(failed)
    numeric = [
        "prior_logprob prior_logprob_per_token prior_margin push pull adapter_margin net_margin success_margin",
        "success_top1 success_answer success_answer_substring critical_gain critical_gain_predicted known",
    ]
    readings = readings.astype({name: object for line in numeric for name in line.split()})
    for name in " ".join(numeric).split():
        readings.loc[bad, name] = None
    readings.loc[bad, "status"] = "error"
    readings.loc[bad, "error"] = "the answers share all their tokens"
    return readings


def layer_readings(rng, items: Table, conditions: Sequence[str], world: World) -> Table:
    """Layer table of the conflict items: the effect sits in the last layer, the second largest norm is inert."""
    conflict = items[items["split"] == "conflict"]
    depth = world.layers
    norm = 1 + np.linspace(0, 1, depth)
    norm[depth // 3] = 1.9
    weight = np.linspace(0.2, 1, depth) ** 3
    weight[depth // 3] = 0.0
    weight = weight / weight.sum()
    prior, adapter = conflict["prior_margin"].to_numpy(), conflict["adapter_one"].to_numpy()
    uniform = np.full(depth + 1, 1 / (depth + 1))
    tables = []
    for condition in conditions:
        gain = effective_gain(condition, "none")[0]
        if condition.startswith(("in-context", "logit-fusion")):
            continue
        gains = np.full(depth, gain)
        if condition in ("slb", "ca", "ca-slb"):
            gains = np.where(norm >= np.sort(norm)[-max(1, depth // 4)], 1.75, 1.0)
        share = np.r_[0.0, weight]
        scatter = 0.05 * rng.normal(size=(len(conflict), depth + 1))
        attribution = (
            prior[:, None] * uniform - gain * adapter[:, None] * share + scatter - scatter.mean(1, keepdims=True)
        )
        for layer in range(-1, depth):
            at = layer + 1
            columns = {
                "item": conflict["item"].to_numpy(),
                "point": conflict["point"].to_numpy(),
                "split": "conflict",
                "condition": condition,
                "layer": layer,
                "attribution": attribution[:, at],
                "lens": attribution[:, : at + 1].sum(1),
            }
            if layer >= 0:
                single = adapter * weight[layer]
                columns |= {
                    "norm": norm[layer] * np.exp(0.05 * rng.normal(size=len(conflict))),
                    "gain": gains[layer],
                    "direct": gain * single,
                    "alone": single if condition == "as-delivered" else np.nan,
                    "removed": adapter - single if condition == "as-delivered" else np.nan,
                }
            tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def manifest(seed, fault, share, specificity, conditions, items, world: World) -> dict:
    """A manifest in the form of a run's, with the planted truth under ``simulation``."""
    stamp = "2026-01-01T00:00:00+00:00"
    return {
        "schema": 1,
        "version": "simulated",
        "plan": {},
        "subject": {
            "name": "simulated",
            "fingerprint": "0" * 16,
            "layers": world.layers,
            "d_model": 64,
            "parameters": 0,
            "dtype": "float32",
            "device": "none",
            "vocab": 512,
        },
        "adapters": {
            "name": f"simulated {fault}",
            "settings": {},
            "static": True,
            "documents": int(items["point"].nunique()),
            "modules": ["down_proj"],
            "rank": 4,
        },
        "items": {"name": "simulated", "sha256": "0" * 64, "count": len(items)},
        "conditions": list(conditions),
        "versions": {},
        "seed": seed,
        "parity": {"logits_max_abs": 0.0, "attribution_max_abs": 0.0, "tolerance": 1e-3, "passed": True},
        "timing": {"total_s": 0.0},
        "started": stamp,
        "finished": stamp,
        "complete": True,
        "simulation": {"fault": fault, "share": share, "specificity": specificity},
    }
