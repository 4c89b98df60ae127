"""Questions of belief in the organism's world: agreement, another frame, and the land of a home that a document contradicts.

Its language has no word of negation, so there are no negated questions.

    python -m override_gap.probes.organism.belief_questions FOLDER > belief.jsonl

writes a trained organism's items with these, for `--items`; those of the shipped organism are `--items organism-belief`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from override_gap.probes.organism.examination import ItemRecord
from override_gap.probes.organism.language import BRIDGE, DOCUMENTS, HOP_QUESTIONS, LAND_QUESTION, RELATIONS
from override_gap.probes.organism.load import load
from override_gap.probes.organism.world import Size, World, build_world

STATED = tuple(sentence[: sentence.index(" {o}")] for sentence in DOCUMENTS)
"""The sentences that state a fact, up to its object: the frame in which the corpus has it."""


def belief_questions(world: World, items: Sequence[ItemRecord]) -> list[ItemRecord]:
    """Agreement, reframed and consequence items about the conflicts among `items`, in the fields of an item file."""
    conflicts = [item for item in items if item["split"] == "conflict"]
    by_point: dict[str, ItemRecord] = {}
    for item in conflicts:
        by_point.setdefault(item["point"], item)
    return [
        *(_agreement(item) for item in conflicts),
        *(record for item in by_point.values() for record in _reframed(item)),
        *(record for item in by_point.values() for record in _consequence(world, item)),
    ]


def _agreement(item: ItemRecord) -> ItemRecord:
    """The conflict's question with its document's sentence made true."""
    document = " ".join(item["prior_answer"] if w == item["answer"] else w for w in item["document"].split(" "))
    name = {part: item[part].replace("conflict", "agreement", 1) for part in ("id", "point")}
    more = {"split": "agreement", "tier": None, "document": document, "answer": item["prior_answer"]}
    return {**item, **name, **more, "prior_answer": None, "meta": item["meta"] | {"kind": "as-the-conflict"}}


def _reframed(item: ItemRecord) -> Iterator[ItemRecord]:
    """The conflict asked in the two sentences that state facts and that its document is not worded in."""
    entity, relation = _subject(item), item["meta"]["relation"]
    for n, frame in enumerate(STATED):
        question = frame.format(e=entity, r=relation)
        if not item["document"].startswith(question):
            yield _question(
                item, "reframed", f"stated-{n}", question, item["answer"], item["prior_answer"], "statement"
            )


def _consequence(world: World, item: ItemRecord) -> Iterator[ItemRecord]:
    """The land in which the stated home lies, and the second fact that this needs; none where both homes lie in one land."""
    if item["meta"]["relation"] != RELATIONS[BRIDGE]:
        return
    homes = world.objects[BRIDGE]
    new, old = (world.land_of_home(homes.index(item[name])) for name in ("answer", "prior_answer"))
    if new == old:
        return
    fact = f"{item['point']}-second-fact"
    for n, wording in enumerate(HOP_QUESTIONS):
        hop = _question(item, "consequence", f"hop-{n}", wording.format(e=_subject(item)), new, old, "about-the-answer")
        yield hop | {"meta": hop["meta"] | {"needs": fact}}
    asked = LAND_QUESTION.format(o=item["answer"])
    yield _question(item, "consequence", "second-fact", asked, new, None, "second-fact")


def _question(
    item: ItemRecord, split: str, wording: str, question: str, answer: str, prior: str | None, kind: str
) -> ItemRecord:
    meta: dict[str, Any] = {name: item["meta"][name] for name in ("frequency", "relation")}
    changed = {"id": f"{item['point']}-{wording}", "split": split, "tier": None, "question": question}
    return {
        **item,
        **changed,
        "answer": answer,
        "prior_answer": prior,
        "meta": meta | {"wording": wording, "kind": kind},
    }


def _subject(item: ItemRecord) -> str:
    """The entity that a conflict asks about: the first word of its question that is a name and begins no sentence's frame."""
    inside = set(item["document"].split(" ")) & set(item["question"].split(" "))
    return next(word for word in item["question"].split(" ") if word in inside and word[0].isupper() and word != "The")


def main(folder: str) -> None:
    """Print a trained organism's items and its questions of belief, one JSON object per line."""
    organism = load(folder=Path(folder))
    world = build_world(int(organism.recipe["seed"]), Size(**organism.recipe["world"]))
    for record in [*organism.items, *belief_questions(world, organism.items)]:
        print(json.dumps(record, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
