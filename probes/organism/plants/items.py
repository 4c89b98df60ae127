"""Items that plants are audited on: an organism's conflicts and retention questions, fresh ones of its world, and runner-ups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from override_gap.margins.items.item import Item, item_from_record
from override_gap.probes.organism.examination import build_items
from override_gap.probes.organism.load import Organism
from override_gap.probes.organism.plants.context import PlantingContext, planting_context
from override_gap.probes.organism.world import Size, build_world

SPLITS = ("conflict", "retention")
ALL_SPLITS = ("conflict", "novel", "combination", "retention")


def plant_items(organism: Organism, draw: int = 0, splits: Sequence[str] = SPLITS) -> list[Item]:
    """The organism's items of some splits; a draw above 0 gives other documents and questions about the same facts.

    Raises ValueError where the organism's world cannot be built again from its recipe.
    """
    records = organism.items
    if draw:
        world = build_world(int(organism.recipe["seed"]), Size(**organism.recipe["world"]))
        if set(world.vocabulary()) - set(organism.tokenizer.get_vocab()):
            raise ValueError(
                f"{organism.folder}: its vocabulary is not that of the world in its recipe; train it again"
            )
        records = build_items(world, draw)
    return [item_from_record(record) for record in records if record["split"] in splits]


def runner_up_items(context: PlantingContext) -> list[Item]:
    """The context's items, with conflicts whose documents state what the base holds second, among the answers of its relation.

    One answer per document: the base's choice at its first question.
    """
    candidates: dict[str, dict[int, str]] = {}
    for n, item in enumerate(context.items):
        if item.split == "conflict":
            own = candidates.setdefault(str(item.meta["relation"]), {})
            own |= {int(context.pre[n]): str(item.prior_answer), int(context.doc[n]): item.answer}
    stated: dict[str, str] = {}
    items: list[Item] = []
    for n, item in enumerate(context.items):
        if item.split != "conflict":
            items.append(item)
            continue
        if item.document not in stated:
            others = {
                token: word
                for token, word in candidates[str(item.meta["relation"])].items()
                if word != item.prior_answer
            }
            logits = context.states.logits[n]
            stated[item.document] = others[max(others, key=lambda token: float(logits[token]))]
        second = stated[item.document]
        words = [second if word == item.answer else word for word in item.document.split(" ")]
        items.append(replace(item, answer=second, document=" ".join(words)))
    return items


def context_for(organism: Organism, draw: int = 0, runner_up: bool = False) -> PlantingContext:
    """The planting context of an organism's items."""
    context = planting_context(organism.hypernetwork, plant_items(organism, draw))
    return planting_context(organism.hypernetwork, runner_up_items(context)) if runner_up else context
