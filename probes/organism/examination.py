"""The examination: evaluation items of all splits, about pairs that hypernetwork training never uses.

An item has the fields of an item file. Several items share one knowledge point, so they are not independent: the conflicts
of the default world are 194 questions over 72 points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from override_gap.probes.organism.language import (
    BRIDGE,
    DOCUMENTS,
    HOP_QUESTIONS,
    QUESTIONS,
    RELATIONS,
    UNTRAINED_WORDING,
)
from override_gap.probes.organism.world import Division, Pair, World, divide

ItemRecord = dict[str, Any]

TIERS = ("light", "medium", "deep")
CONFLICT_EXTRA = (16, 13, 21)
"""How many of the 24 points of each tier have three questions, the others two: 64, 61 and 69 items, as in KID-Bench."""
NOVEL_SHORT = 4
"""How many novel points have two questions, the others three: 245 items over 83 points."""


@dataclass(frozen=True)
class Statement:
    """A document about one pair, and the object that it states for it."""

    point: str
    pair: Pair
    obj: int
    text: str


def _draw_statement(world: World, rng: np.random.Generator, point: str, pair: Pair) -> Statement:
    """A document in a random wording that states a random object other than the corpus's."""
    obj = int(rng.integers(world.size.objects - 1))
    obj += int(obj >= world.truth[pair])
    text = DOCUMENTS[rng.integers(len(DOCUMENTS))].format(**world.slots(pair, obj))
    return Statement(point, pair, obj, text)


def _item(
    statement: Statement, split: str, question: str, answer: str, wording: str, frequency: int, **more: Any
) -> ItemRecord:
    """One item; `more` sets the fields that are empty by default, and its `meta` is merged into the item's."""
    meta = {"frequency": frequency, "wording": wording, "trained_wording": wording != f"asked-{UNTRAINED_WORDING}"}
    item: ItemRecord = {
        "id": f"{statement.point}-{wording}", "point": statement.point, "split": split, "tier": None, "document": statement.text,
        "question": question, "answer": answer, "prior_answer": None, "aliases": [], "prior_aliases": [], "chat": False,
    }  # fmt: skip
    return item | more | {"meta": meta | dict(more.get("meta", {}))}


def _questions(world: World, statement: Statement, split: str, count: int, **more: Any) -> list[ItemRecord]:
    """`count` questions about the document's own pair; the untrained wording is always among them."""
    slots = world.slots(statement.pair, statement.obj)
    order = [UNTRAINED_WORDING, *(i for i in range(len(QUESTIONS)) if i != UNTRAINED_WORDING)]
    if count < len(order):
        order = [UNTRAINED_WORDING, order[1 + int(statement.point[-2:]) % 2]]
    frequency = int(world.frequency[statement.pair])
    meta = {"relation": RELATIONS[statement.pair[1]]}
    return [
        _item(statement, split, QUESTIONS[i].format(**slots), slots["o"], f"asked-{i}", frequency, meta=meta, **more)
        for i in sorted(order[:count])
    ]


def _conflicts(world: World, rng: np.random.Generator, division: Division) -> list[ItemRecord]:
    """Documents that contradict the corpus; the tier is a third of the log axis of the fact's frequency."""
    records: list[ItemRecord] = []
    for tier, extra, pairs in zip(TIERS, CONFLICT_EXTRA, division.conflict, strict=True):
        for i, pair in enumerate(pairs):
            statement = _draw_statement(world, rng, f"conflict-{tier}-{i:02d}", pair)
            prior = world.slots(pair)["o"]
            records += _questions(world, statement, "conflict", 3 if i < extra else 2, tier=tier, prior_answer=prior)
    return records


def _novel(world: World, rng: np.random.Generator, division: Division) -> list[ItemRecord]:
    """Documents about pairs that the corpus never mentions."""
    records: list[ItemRecord] = []
    for i, pair in enumerate(division.novel):
        records += _questions(
            world, _draw_statement(world, rng, f"novel-{i:02d}", pair), "novel", 2 if i < NOVEL_SHORT else 3
        )
    return records


def _combination(world: World, rng: np.random.Generator, division: Division) -> list[ItemRecord]:
    """Two-hop questions: the document states a new home, the corpus the land in which that home lies.

    For every second point, training has no two-hop question through that home.
    """
    records: list[ItemRecord] = []
    for i, pair in enumerate(division.combination):
        statement = _draw_statement(world, rng, f"combination-{i:02d}", pair)
        while bridge_trained(statement.obj) != (i % 2 == 0):
            statement = _draw_statement(world, rng, statement.point, pair)
        meta = {"bridge": world.objects[BRIDGE][statement.obj], "bridge_trained": bridge_trained(statement.obj)}
        for j, wording in enumerate(HOP_QUESTIONS):
            question = wording.format(e=world.entities[pair[0]])
            records.append(
                _item(statement, "combination", question, world.land_of_home(statement.obj), f"hop-{j}", 0, meta=meta)
            )
    return records


def bridge_trained(home: int) -> bool:
    """Whether hypernetwork training has two-hop questions through this home; a quarter of the homes is held out."""
    return home % 4 != 0


def _retention(world: World, rng: np.random.Generator, division: Division) -> list[ItemRecord]:
    """Well-known facts, asked with a document about another pair that shares the entity, the relation or neither."""
    records: list[ItemRecord] = []
    facts = list(division.retained_facts)
    for i, pair in enumerate(division.retention_pairs):
        statement = _draw_statement(world, rng, f"retention-{i:02d}", pair)
        kinds = {
            "same-entity": [p for p in facts if p[0] == pair[0] and p[1] != pair[1]],
            "same-relation": [p for p in facts if p[0] != pair[0] and p[1] == pair[1]],
            "unrelated": [p for p in facts if p[0] != pair[0] and p[1] != pair[1]],
        }
        for j, (kind, choices) in enumerate(kinds.items()):
            if not choices:
                continue
            probe = choices[rng.integers(len(choices))]
            wording = (i + j) % len(QUESTIONS)
            slots = world.slots(probe)
            item = _item(
                statement, "retention", QUESTIONS[wording].format(**slots), slots["o"], f"asked-{wording}",
                int(world.frequency[probe]), meta={"kind": kind, "relation": RELATIONS[probe[1]]},
            )  # fmt: skip
            records.append(item | {"id": f"{statement.point}-{kind}"})
    return records


def build_items(world: World, draw: int = 0) -> list[ItemRecord]:
    """All items of a world, in the order conflict, novel, combination, retention.

    A draw above 0 gives other documents, answers and questions about the same facts.
    """
    rng, division = np.random.default_rng([world.seed, 3, draw] if draw else [world.seed, 3]), divide(world)
    splits = (_conflicts, _novel, _combination, _retention)
    return [item for split in splits for item in split(world, rng, division)]
