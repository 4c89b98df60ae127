"""The organism's questions of belief: the shipped file is what the generator makes, and each follows from the world."""

from __future__ import annotations

import json
from collections import Counter

from override_gap.probes.items import open_items
from override_gap.probes.organism.belief_questions import belief_questions
from override_gap.probes.organism.language import QUESTIONS
from override_gap.probes.organism.load import load
from override_gap.probes.organism.world import Size, build_world


def test_the_shipped_questions_are_those_of_its_world() -> None:
    organism = load()
    world = build_world(int(organism.recipe["seed"]), Size(**organism.recipe["world"]))
    shipped = [json.loads(line) for line in (organism.folder / "belief.jsonl").read_text().splitlines()]
    assert shipped == belief_questions(world, organism.items)
    # by other words than the generator's: which land a home lies in, and what the corpus says of an entity
    land = {home: world.lands[n] for home, n in zip(world.objects[0], world.land_of, strict=True)}
    vocabulary = set(organism.tokenizer.get_vocab())
    conflicts = {item["point"]: item for item in organism.items if item["split"] == "conflict"}
    for item in shipped:
        conflict = conflicts[item["point"].replace("agreement", "conflict")]
        assert set(item["question"].split()) <= vocabulary
        if item["split"] == "agreement":
            assert item["document"].split() == [
                item["answer"] if word == conflict["answer"] else word for word in conflict["document"].split()
            ]
            assert (item["answer"], item["prior_answer"]) == (conflict["prior_answer"], None)
        elif item["split"] == "reframed":
            assert (item["answer"], item["prior_answer"]) == (conflict["answer"], conflict["prior_answer"])
            assert not any(item["question"].startswith(q.split(" {")[0] + " {") for q in QUESTIONS)
            assert not conflict["document"].startswith(item["question"])
        else:
            assert item["answer"] == land[conflict["answer"]]
            assert item["prior_answer"] in (None, land[conflict["prior_answer"]])
    assert Counter(item["split"] for item in shipped) == {"agreement": 194, "reframed": 144, "consequence": 21}


def test_they_are_read_beside_the_organisms_own() -> None:
    items, own = open_items("organism-belief"), open_items("organism")
    assert items[: len(own)] == own
    assert len({item.id for item in items}) == len(items) == len(own) + 359
