"""What the hypernetwork is taught: made-up documents, and what the updated base should say about them and beside them.

Documents are about pairs that the corpus never mentions (most of them) or states, however often. What is asked of it is the
same rise of the log-odds everywhere, so that it fails where the base's own margin is larger than that: by magnitude.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM

from override_gap.probes.organism.examination import bridge_trained
from override_gap.probes.organism.language import BRIDGE, DOCUMENTS, HOP_QUESTIONS, QUESTIONS, UNTRAINED_WORDING
from override_gap.probes.organism.world import Division, Pair, World, divide

ASKED = 7
"""Questions per document: two about it, one two-hop, four about other pairs."""
WORDINGS = tuple(i for i in range(len(QUESTIONS)) if i != UNTRAINED_WORDING)


@dataclass(frozen=True)
class TrainingBatch:
    """One training batch. A question's row belongs to document row // ASKED."""

    documents: Int[Tensor, "doc pos"]
    questions: Int[Tensor, "question pos"]
    last: Int[Tensor, " question"]
    """Position of each question's last word."""
    base: Float[Tensor, "question vocab"]
    """The base's own log-probabilities of the next word."""
    answer: Int[Tensor, " question"]
    """Token id that the document asks for, or -1 where the base's answer is to be kept."""


@dataclass(frozen=True)
class Book:
    """Every question of a world, tokenised once, with the base's own answer to it."""

    world: World
    division: Division
    number: dict[str, int]
    direct: Int[Tensor, "entity relation wording"]
    """Row of each question in the tables below."""
    hops: Int[Tensor, "entity wording"]
    ids: Int[Tensor, "row pos"]
    last: Int[Tensor, " row"]
    base: Float[Tensor, "row vocab"]


def tokenise(number: dict[str, int], texts: list[str]) -> tuple[Int[Tensor, "row pos"], Int[Tensor, " row"]]:
    """Right-padded ids with <bos> in front, and the position of each last word."""
    rows = [[number["<bos>"], *(number[word] for word in text.split())] for text in texts]
    width = max(len(row) for row in rows)
    last = torch.tensor([len(row) - 1 for row in rows])
    return torch.tensor([row + [number["<pad>"]] * (width - len(row)) for row in rows]), last


def next_word(
    base: LlamaForCausalLM, ids: Int[Tensor, "row pos"], last: Int[Tensor, " row"]
) -> Float[Tensor, "row vocab"]:
    """Log-probabilities of the word after position `last`; padding to the right of it cannot be seen."""
    hidden = base.model(input_ids=ids).last_hidden_state[torch.arange(len(ids)), last]
    return base.lm_head(hidden).log_softmax(-1)


@torch.no_grad()
def open_book(world: World, base: LlamaForCausalLM) -> Book:
    """Ask the base every question in the wordings that training may use."""
    number = {word: i for i, word in enumerate(world.vocabulary())}
    shape = (*world.frequency.shape, len(WORDINGS))
    texts = [QUESTIONS[WORDINGS[w]].format(**world.slots((e, r))) for e, r, w in np.ndindex(*shape)]
    direct = torch.arange(len(texts)).view(shape)
    hops = len(texts) + torch.arange(world.size.entities * len(HOP_QUESTIONS)).view(-1, len(HOP_QUESTIONS))
    texts += [wording.format(e=name) for name in world.entities for wording in HOP_QUESTIONS]
    ids, last = tokenise(number, texts)
    answers = [next_word(base, some, at) for some, at in zip(ids.split(512), last.split(512), strict=True)]
    return Book(world, divide(world), number, direct, hops, ids, last, torch.cat(answers))


def _others(book: Book, rng: np.random.Generator, pair: Pair) -> list[int]:
    """Rows of four questions about other pairs: of the same entity, of the same relation, and any.

    The same relation is asked twice, because that is where a document leaks: on seeds 0 to 2 every answer that was lost
    in the retention split was of the same relation when it was asked once.
    """
    spared = book.division.open.copy()
    spared[pair] = False
    relations, entities = np.nonzero(spared[pair[0]])[0], np.nonzero(spared[:, pair[1]])[0]
    anywhere = np.argwhere(spared)
    chosen = [
        (pair[0], rng.choice(relations)) if len(relations) else anywhere[rng.integers(len(anywhere))],
        *((entity, pair[1]) for entity in rng.choice(entities, 2)),
        anywhere[rng.integers(len(anywhere))],
    ]
    return [int(book.direct[e, r, rng.integers(len(WORDINGS))]) for e, r in chosen]


def _hop(book: Book, rng: np.random.Generator, pair: Pair, obj: int) -> tuple[int, str | None]:
    """Row of a two-hop question, and the land that is to be answered; None where the base's answer is to be kept."""
    entity, wording = pair[0], int(rng.integers(len(HOP_QUESTIONS)))
    if pair[1] == BRIDGE and bridge_trained(obj):
        return int(book.hops[entity, wording]), book.world.land(obj)
    allowed = np.nonzero(book.division.open[:, BRIDGE])[0]
    allowed = allowed[allowed != entity] if pair[1] == BRIDGE or entity not in allowed else np.array([entity])
    return int(book.hops[rng.choice(allowed), wording]), None


def by_entity(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """The pairs of each entity that has any.

    A document is drawn by its entity first: on seed 4, where pairs were drawn evenly, most of the novel facts missed were of
    entities with no or one pair to train on.
    """
    groups: dict[int, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair[0], []).append(pair)
    return list(groups.values())


def draw_batch(
    book: Book, rng: np.random.Generator, documents: int, known_share: float, bridge_share: float
) -> TrainingBatch:
    """A batch of made-up documents with their questions.

    `known_share` of the documents contradicts a fact that the corpus states. `bridge_share` of them is about
    a home by choice, beyond those that are by chance, so that two hops are practised often enough.
    """
    world, division = book.world, book.division
    novel, known = by_entity(division.train_novel), by_entity(division.train_known)
    bridging = by_entity(pair for pair in division.train_novel if pair[1] == BRIDGE)
    texts, rows, answers = [], [], []
    for _ in range(documents):
        chance = rng.random()
        if chance < known_share and known:
            pool = known
        else:
            pool = bridging if chance > 1 - bridge_share and bridging else novel
        own = pool[rng.integers(len(pool))]
        pair = own[rng.integers(len(own))]
        obj = int(rng.integers(world.size.objects))
        slots = world.slots(pair, obj)
        texts.append(DOCUMENTS[rng.integers(len(DOCUMENTS))].format(**slots))
        row, land = _hop(book, rng, pair, obj)
        rows += [*book.direct[pair].tolist(), row, *_others(book, rng, pair)]
        answers += [book.number[slots["o"]]] * len(WORDINGS)
        answers += [book.number[land] if land else -1, -1, -1, -1, -1]
    ids, _ = tokenise(book.number, texts)
    at = torch.tensor(rows)
    return TrainingBatch(ids, book.ids[at], book.last[at], book.base[at], torch.tensor(answers))
