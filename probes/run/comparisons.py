"""What every unit of a run compares with: questions that a document has nothing to do with, and other documents' answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from override_gap.margins.items.item import BELIEF, Item
from override_gap.margins.items.item_set import ItemSet

#: How many questions are at hand; each document's adapter is read on some of them.
POOL = 32
#: Other answers at most; of one relation so many even beyond that.
OTHERS, OF_RELATION = 256, 64


@dataclass(frozen=True)
class Comparisons:
    """The items of a run with which every unit compares: unrelated questions, and items with other answers."""

    unrelated: tuple[Item, ...] = ()
    others: tuple[Item, ...] = ()

    @classmethod
    def of(cls, items: ItemSet, seed: int) -> Comparisons:
        """Chosen by content and seed: retention questions first, then others; conflicts' answers first, each answer once.

        Questions of belief come last, where there are too few others, and their answers are none of those compared with.
        """
        order = sorted(items.items, key=lambda item: hashlib.sha256(f"{seed}:{item.id}".encode()).digest())
        questions: dict[str, Item] = {}
        for item in sorted(order, key=lambda item: (item.split in BELIEF, item.split != "retention")):
            questions.setdefault(item.question, item)
        answers: dict[str, Item] = {}
        for item in sorted(order, key=lambda item: item.split != "conflict"):
            if item.split not in ("retention", *BELIEF):
                answers.setdefault(item.answer.strip(), item)
        chosen, of_relation = [], {}
        for number, item in enumerate(answers.values()):
            relation = relation_of(item)
            of_relation[relation] = of_relation.get(relation, 0) + 1
            if number < OTHERS or (relation is not None and of_relation[relation] <= OF_RELATION):
                chosen.append(item)
        return cls(tuple(questions.values())[:POOL], tuple(chosen))


def relation_of(item: Item) -> str | None:
    """The relation that an item asks about, as its file names it; None where it names none."""
    relation = item.meta.get("relation")
    return None if relation is None else str(relation)
