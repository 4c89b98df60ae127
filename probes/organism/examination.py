"""The examination: items of all splits over the pairs that hypernetwork training never touches.

An item has the fields of an item file. Several items share one knowledge point, so they are not independent: conflicts
in the default world are 194 questions over 72 points.
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

Record = dict[str, Any]

TIERS = ("light", "medium", "deep")
CONFLICT_EXTRA = (16, 13, 21)
"""Of the 24 points of each tier, how many have three questions and not two: 64, 61 and 69 items, as in KID-Bench."""
NOVEL_SHORT = 4
"""Novel points with two questions and not three: 245 items over 83 points."""


@dataclass(frozen=True)
class Statement:
    """A document about one pair, and the object that it states."""

    point: str
    pair: Pair
    obj: int
    text: str


def _state(world: World, rng: np.random.Generator, point: str, pair: Pair) -> Statement:
    """A document in a random wording that states any object but the corpus's own."""
    obj = int(rng.integers(world.size.objects - 1))
    obj += int(obj >= world.truth[pair])
    text = DOCUMENTS[rng.integers(len(DOCUMENTS))].format(**world.slots(pair, obj))
    return Statement(point, pair, obj, text)


def _record(
    said: Statement, split: str, question: str, answer: str, wording: str, frequency: int, **more: Any
) -> Record:
    """One item; `more` overrides the fields that are empty by default, and its `meta` is added."""
    meta = {"frequency": frequency, "wording": wording, "trained_wording": wording != f"asked-{UNTRAINED_WORDING}"}
    record: Record = {
        "id": f"{said.point}-{wording}", "point": said.point, "split": split, "tier": None, "document": said.text,
        "question": question, "answer": answer, "prior_answer": None, "aliases": [], "prior_aliases": [], "chat": False,
    }  # fmt: skip
    return record | more | {"meta": meta | dict(more.get("meta", {}))}


def _asked(world: World, said: Statement, split: str, count: int, **more: Any) -> list[Record]:
    """`count` questions about the pair that the document is about; the untrained wording is always among them."""
    slots = world.slots(said.pair, said.obj)
    order = [UNTRAINED_WORDING, *(i for i in range(len(QUESTIONS)) if i != UNTRAINED_WORDING)]
    if count < len(order):
        order = [UNTRAINED_WORDING, order[1 + int(said.point[-2:]) % 2]]
    frequency = int(world.frequency[said.pair])
    meta = {"relation": RELATIONS[said.pair[1]]}
    return [
        _record(said, split, QUESTIONS[i].format(**slots), slots["o"], f"asked-{i}", frequency, meta=meta, **more)
        for i in sorted(order[:count])
    ]


def _conflicts(world: World, rng: np.random.Generator, division: Division) -> list[Record]:
    """Documents that contradict what the corpus states; the tier is the decade of the fact's frequency."""
    records: list[Record] = []
    for tier, extra, pairs in zip(TIERS, CONFLICT_EXTRA, division.conflict, strict=True):
        for i, pair in enumerate(pairs):
            said = _state(world, rng, f"conflict-{tier}-{i:02d}", pair)
            prior = world.slots(pair)["o"]
            records += _asked(world, said, "conflict", 3 if i < extra else 2, tier=tier, prior_answer=prior)
    return records


def _novel(world: World, rng: np.random.Generator, division: Division) -> list[Record]:
    """Documents about pairs that the corpus never mentions."""
    records: list[Record] = []
    for i, pair in enumerate(division.novel):
        records += _asked(world, _state(world, rng, f"novel-{i:02d}", pair), "novel", 2 if i < NOVEL_SHORT else 3)
    return records


def _combination(world: World, rng: np.random.Generator, division: Division) -> list[Record]:
    """A new home from the document, and the land it lies in, which the corpus states: two hops.

    Every second point goes through a home of which the hypernetwork never met a two-hop question.
    """
    records: list[Record] = []
    for i, pair in enumerate(division.combination):
        said = _state(world, rng, f"combination-{i:02d}", pair)
        while bridge_trained(said.obj) != (i % 2 == 0):
            said = _state(world, rng, said.point, pair)
        meta = {"bridge": world.objects[BRIDGE][said.obj], "bridge_trained": bridge_trained(said.obj)}
        for j, wording in enumerate(HOP_QUESTIONS):
            question = wording.format(e=world.entities[pair[0]])
            records.append(_record(said, "combination", question, world.land(said.obj), f"hop-{j}", 0, meta=meta))
    return records


def bridge_trained(home: int) -> bool:
    """Whether the hypernetwork trains on two-hop questions through this home; a quarter of the homes is spared."""
    return home % 4 != 0


def _retention(world: World, rng: np.random.Generator, division: Division) -> list[Record]:
    """Well-known facts asked under a document about another pair: same entity, same relation, or neither shared."""
    records: list[Record] = []
    kept = list(division.kept)
    for i, pair in enumerate(division.bystanders):
        said = _state(world, rng, f"retention-{i:02d}", pair)
        kinds = {
            "same-entity": [p for p in kept if p[0] == pair[0] and p[1] != pair[1]],
            "same-relation": [p for p in kept if p[0] != pair[0] and p[1] == pair[1]],
            "unrelated": [p for p in kept if p[0] != pair[0] and p[1] != pair[1]],
        }
        for j, (kind, choices) in enumerate(kinds.items()):
            if not choices:
                continue
            probe = choices[rng.integers(len(choices))]
            wording = (i + j) % len(QUESTIONS)
            slots = world.slots(probe)
            record = _record(
                said, "retention", QUESTIONS[wording].format(**slots), slots["o"], f"asked-{wording}",
                int(world.frequency[probe]), meta={"kind": kind, "relation": RELATIONS[probe[1]]},
            )  # fmt: skip
            records.append(record | {"id": f"{said.point}-{kind}"})
    return records


def build_items(world: World) -> list[Record]:
    """All items of a world, conflicts first."""
    rng, division = np.random.default_rng([world.seed, 3]), divide(world)
    parts = (_conflicts, _novel, _combination, _retention)
    return [record for part in parts for record in part(world, rng, division)]
