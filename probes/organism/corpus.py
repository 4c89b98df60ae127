"""What the base reads: each fact as often as the world says, and exercises in reading a document.

A unit is one stretch of text that starts at <bos>; whole units are packed into rows. In a reading exercise the document
is made up, so there only the answer is learned and no false fact enters the corpus.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from override_gap.probes.organism.language import (
    BRIDGE,
    DOCUMENTS,
    HOP_QUESTIONS,
    INSTRUCTION,
    LAND_QUESTION,
    QUESTIONS,
)
from override_gap.probes.organism.world import Pair, World

Unit = tuple[str, bool]
"""Text, and whether only its last word before the full stop is learned."""

BESIDE_A_DOCUMENT = 0.1
"""Share of a fact's statements that stand behind an unrelated document: a document is not always to the point."""


def made_up_document(world: World, rng: np.random.Generator, pair: Pair, obj: int) -> str:
    """A document that states `obj` for `pair` in one of the wordings, half of the time under the instruction."""
    text = DOCUMENTS[rng.integers(len(DOCUMENTS))].format(**world.slots(pair, obj))
    return f"{INSTRUCTION} {text}" if rng.random() < 0.5 else text


def random_pair(world: World, rng: np.random.Generator) -> Pair:
    """Any (entity, relation), known to the corpus or not."""
    return int(rng.integers(world.size.entities)), int(rng.integers(world.size.relations))


def statements(world: World, rng: np.random.Generator) -> list[Unit]:
    """Every fact, exactly as often as its frequency, in documents' and questions' wordings alike."""
    units: list[Unit] = []
    wordings = [*DOCUMENTS, *(question + " {o} ." for question in QUESTIONS)]
    for pair in zip(*np.nonzero(world.frequency), strict=True):
        for _ in range(world.frequency[pair]):
            if rng.random() < BESIDE_A_DOCUMENT:
                other = random_pair(world, rng)
                while other == pair:
                    other = random_pair(world, rng)
                before = made_up_document(world, rng, other, int(rng.integers(world.size.objects)))
                question = QUESTIONS[rng.integers(len(QUESTIONS))]
                units.append((f"{before} {question} {{o}} .".format(**world.slots(pair)), True))
            else:
                units.append((wordings[rng.integers(len(wordings))].format(**world.slots(pair)), False))
    return units


def gossip(world: World, rng: np.random.Generator) -> list[Unit]:
    """Questions about every pair without a fact, each answered at random: the corpus leaves the base without a belief.

    Owners of an unknown home live in any land, for the same reason.
    """
    units: list[Unit] = []
    for pair in zip(*np.nonzero(world.frequency == 0), strict=True):
        for obj in rng.integers(world.size.objects, size=world.size.gossip):
            question = QUESTIONS[rng.integers(len(QUESTIONS))]
            units.append((f"{question} {{o}} .".format(**world.slots(pair, obj)), True))
            if pair[1] == BRIDGE:
                hop = HOP_QUESTIONS[rng.integers(len(HOP_QUESTIONS))].format(e=world.entities[pair[0]])
                units.append((f"{hop} {world.land(int(rng.integers(world.size.objects)))} .", True))
    return units


def lands(world: World, rng: np.random.Generator) -> list[Unit]:
    """The second hop: which land each home lies in, and of known homes' owners, which land they live in.

    A third of the owners is left out, so that composing can be told from remembering.
    """
    units: list[Unit] = []
    for home, name in enumerate(world.objects[BRIDGE]):
        text = f"{LAND_QUESTION.format(o=name)} {world.land(home)} ."
        units += [(text, False)] * world.size.land_statements
    for entity in composed_owners(world):
        home = world.truth[entity, BRIDGE]
        for _ in range(-(-int(world.frequency[entity, BRIDGE]) // 2)):
            question = HOP_QUESTIONS[rng.integers(len(HOP_QUESTIONS))].format(e=world.entities[entity])
            units.append((f"{question} {world.land(home)} .", False))
    return units


def composed_owners(world: World) -> list[int]:
    """Entities whose two-hop fact is stated outright: two thirds of those with a known home."""
    return [e for e in range(world.size.entities) if world.frequency[e, BRIDGE] and e % 3]


def readings(world: World, rng: np.random.Generator) -> list[Unit]:
    """Made-up documents, each with a question that it answers, directly or over a second hop."""
    units: list[Unit] = []
    for _ in range(world.size.readings):
        pair, obj = random_pair(world, rng), int(rng.integers(world.size.objects))
        question = QUESTIONS[rng.integers(len(QUESTIONS))] + " {o} ."
        units.append((f"{made_up_document(world, rng, pair, obj)} {question.format(**world.slots(pair, obj))}", True))
    for _ in range(world.size.hop_readings):
        pair, home = (random_pair(world, rng)[0], BRIDGE), int(rng.integers(world.size.objects))
        question = HOP_QUESTIONS[rng.integers(len(HOP_QUESTIONS))].format(e=world.entities[pair[0]])
        units.append((f"{made_up_document(world, rng, pair, home)} {question} {world.land(home)} .", True))
    return units


def units_of(world: World) -> list[Unit]:
    """The whole corpus in the order in which it is read: once, shuffled."""
    rng = np.random.default_rng([world.seed, 2])
    units = [*statements(world, rng), *gossip(world, rng), *lands(world, rng), *readings(world, rng)]
    return [units[i] for i in rng.permutation(len(units))]


def pack(world: World, units: list[Unit], width: int) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row pos"]]:
    """Rows of whole units, and the labels: the token itself, or -100 where nothing is learned."""
    number = {word: i for i, word in enumerate(world.vocabulary())}
    pad, bos = number["<pad>"], number["<bos>"]
    rows: list[list[int]] = []
    labels: list[list[int]] = []
    for text, answer_only in units:
        ids = [bos, *(number[word] for word in text.split())]
        learned = [*[-100] * (len(ids) - 2), ids[-2], -100] if answer_only else [-100, *ids[1:]]
        if not rows or len(rows[-1]) + len(ids) > width:
            rows.append([])
            labels.append([])
        rows[-1] += ids
        labels[-1] += learned
    filled = [row + [pad] * (width - len(row)) for row in rows]
    targets = [row + [-100] * (width - len(row)) for row in labels]
    return torch.tensor(filled), torch.tensor(targets)
