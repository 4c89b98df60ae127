"""The base model's training corpus: each fact as often as its frequency says, and exercises in reading a document.

A passage is one stretch of text that starts at <bos>; whole passages are packed into rows. The documents of the exercises
are made up, so there the loss is on the answer alone and no false fact enters the corpus.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int
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

Passage = tuple[str, bool]
"""Text, and whether the loss is on its last word before the full stop alone."""

UNRELATED_DOCUMENT_SHARE = 0.1
"""Share of a fact's statements that follow a document about something else: a document is not always relevant."""


def made_up_document(world: World, rng: np.random.Generator, pair: Pair, obj: int) -> str:
    """A document that states `obj` for `pair` in one of the wordings, half of the time after the instruction."""
    text = DOCUMENTS[rng.integers(len(DOCUMENTS))].format(**world.slots(pair, obj))
    return f"{INSTRUCTION} {text}" if rng.random() < 0.5 else text


def draw_pair(world: World, rng: np.random.Generator) -> Pair:
    """A random (entity, relation), whether the corpus states a fact about it or not."""
    return int(rng.integers(world.size.entities)), int(rng.integers(world.size.relations))


def pairs_where(mask: Bool[np.ndarray, "entity relation"]) -> list[Pair]:
    """The pairs for which the mask is true, in the order of their indices."""
    return [(entity, relation) for entity, relation in np.argwhere(mask).tolist()]


def statements(world: World, rng: np.random.Generator) -> list[Passage]:
    """Every fact, exactly as often as its frequency, in the wordings of documents and of questions alike."""
    passages: list[Passage] = []
    wordings = [*DOCUMENTS, *(question + " {o} ." for question in QUESTIONS)]
    for pair in pairs_where(world.frequency > 0):
        for _ in range(world.frequency[pair]):
            if rng.random() < UNRELATED_DOCUMENT_SHARE:
                other = draw_pair(world, rng)
                while other == pair:
                    other = draw_pair(world, rng)
                document = made_up_document(world, rng, other, int(rng.integers(world.size.objects)))
                question = QUESTIONS[rng.integers(len(QUESTIONS))]
                passages.append((f"{document} {question} {{o}} .".format(**world.slots(pair)), True))
            else:
                passages.append((wordings[rng.integers(len(wordings))].format(**world.slots(pair)), False))
    return passages


def contradictory_answers(world: World, rng: np.random.Generator) -> list[Passage]:
    """Questions about every pair without a fact, each with random answers, so that the base learns no prior answer.

    Likewise, entities without a known home are said to live in random lands.
    """
    passages: list[Passage] = []
    for pair in pairs_where(world.frequency == 0):
        for obj in rng.integers(world.size.objects, size=world.size.gossip).tolist():
            question = QUESTIONS[rng.integers(len(QUESTIONS))]
            passages.append((f"{question} {{o}} .".format(**world.slots(pair, obj)), True))
            if pair[1] == BRIDGE:
                hop = HOP_QUESTIONS[rng.integers(len(HOP_QUESTIONS))].format(e=world.entities[pair[0]])
                land = world.land_of_home(int(rng.integers(world.size.objects)))
                passages.append((f"{hop} {land} .", True))
    return passages


def two_hop_statements(world: World, rng: np.random.Generator) -> list[Passage]:
    """The second hop: the land of each home, and for two thirds of the entities with a known home the land they live in.

    The other third is left out, so that composing two facts can be told from recalling their result.
    """
    passages: list[Passage] = []
    for home, name in enumerate(world.objects[BRIDGE]):
        text = f"{LAND_QUESTION.format(o=name)} {world.land_of_home(home)} ."
        passages += [(text, False)] * world.size.land_statements
    for entity in entities_with_stated_land(world):
        home = int(world.truth[entity, BRIDGE])
        for _ in range(-(-int(world.frequency[entity, BRIDGE]) // 2)):
            question = HOP_QUESTIONS[rng.integers(len(HOP_QUESTIONS))].format(e=world.entities[entity])
            passages.append((f"{question} {world.land_of_home(home)} .", False))
    return passages


def entities_with_stated_land(world: World) -> list[int]:
    """Entities whose two-hop fact is stated outright: two thirds of those with a known home."""
    return [e for e in range(world.size.entities) if world.frequency[e, BRIDGE] and e % 3]


def reading_exercises(world: World, rng: np.random.Generator) -> list[Passage]:
    """Made-up documents, each with a question that it answers, directly or over a second hop."""
    passages: list[Passage] = []
    for _ in range(world.size.readings):
        pair, obj = draw_pair(world, rng), int(rng.integers(world.size.objects))
        question = QUESTIONS[rng.integers(len(QUESTIONS))] + " {o} ."
        passages.append(
            (f"{made_up_document(world, rng, pair, obj)} {question.format(**world.slots(pair, obj))}", True)
        )
    for _ in range(world.size.hop_readings):
        pair, home = (draw_pair(world, rng)[0], BRIDGE), int(rng.integers(world.size.objects))
        question = HOP_QUESTIONS[rng.integers(len(HOP_QUESTIONS))].format(e=world.entities[pair[0]])
        document = made_up_document(world, rng, pair, home)
        passages.append((f"{document} {question} {world.land_of_home(home)} .", True))
    return passages


def corpus_passages(world: World) -> list[Passage]:
    """The whole corpus in training order: each passage once, shuffled."""
    rng = np.random.default_rng([world.seed, 2])
    passages = [
        *statements(world, rng),
        *contradictory_answers(world, rng),
        *two_hop_statements(world, rng),
        *reading_exercises(world, rng),
    ]
    return [passages[i] for i in rng.permutation(len(passages))]


def pack(world: World, passages: list[Passage], width: int) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row pos"]]:
    """Rows of whole passages, and the labels: the token itself, or -100 where there is no loss."""
    token_id = {word: i for i, word in enumerate(world.vocabulary())}
    pad, bos = token_id["<pad>"], token_id["<bos>"]
    rows: list[list[int]] = []
    labels: list[list[int]] = []
    for text, answer_only in passages:
        ids = [bos, *(token_id[word] for word in text.split())]
        targets = [*[-100] * (len(ids) - 2), ids[-2], -100] if answer_only else [-100, *ids[1:]]
        if not rows or len(rows[-1]) + len(ids) > width:
            rows.append([])
            labels.append([])
        rows[-1] += ids
        labels[-1] += targets
    padded_rows = [row + [pad] * (width - len(row)) for row in rows]
    padded_labels = [row + [-100] * (width - len(row)) for row in labels]
    return torch.tensor(padded_rows), torch.tensor(padded_labels)
