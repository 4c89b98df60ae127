"""Training batches of the hypernetwork: made-up documents, questions that they answer, and questions that they do not.

Documents are about pairs without a fact (most of them) or contradict a fact of any frequency. The target is the same rise of
the log-odds for all, so that the trained hypernetwork fails where the base's own margin is larger: by magnitude.
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

QUESTIONS_PER_DOCUMENT = 7
"""Two about the document's own pair, one two-hop, four about other pairs."""
TRAINED_WORDINGS = tuple(i for i in range(len(QUESTIONS)) if i != UNTRAINED_WORDING)


@dataclass(frozen=True)
class TrainingBatch:
    """One batch; question row n belongs to document n // QUESTIONS_PER_DOCUMENT."""

    documents: Int[Tensor, "doc doc_pos"]
    questions: Int[Tensor, "question pos"]
    last: Int[Tensor, " question"]
    """Position of each question's last token."""
    base: Float[Tensor, "question vocab"]
    """The base's own log-probabilities of the next token."""
    answer: Int[Tensor, " question"]
    """Token id of the document's answer, or -1 where the base's distribution is the target."""


@dataclass(frozen=True)
class QuestionTable:
    """Every question of a world, tokenised once, with the base's log-probabilities of its answer."""

    world: World
    division: Division
    token_id: dict[str, int]
    direct: Int[Tensor, "entity relation wording"]
    """Row of each direct question in `ids`, `last` and `base`."""
    hops: Int[Tensor, "entity hop_wording"]
    """Row of each two-hop question."""
    ids: Int[Tensor, "row pos"]
    last: Int[Tensor, " row"]
    base: Float[Tensor, "row vocab"]


def tokenise(token_id: dict[str, int], texts: list[str]) -> tuple[Int[Tensor, "row pos"], Int[Tensor, " row"]]:
    """Right-padded ids with <bos> in front, and the position of each last token."""
    rows = [[token_id["<bos>"], *(token_id[word] for word in text.split())] for text in texts]
    width = max(len(row) for row in rows)
    last = torch.tensor([len(row) - 1 for row in rows])
    return torch.tensor([row + [token_id["<pad>"]] * (width - len(row)) for row in rows]), last


def next_word(
    base: LlamaForCausalLM, ids: Int[Tensor, "row pos"], last: Int[Tensor, " row"]
) -> Float[Tensor, "row vocab"]:
    """Log-probabilities of the token after position `last`; causal attention does not see the padding behind it."""
    hidden = base.model(input_ids=ids).last_hidden_state[torch.arange(len(ids)), last]
    return base.lm_head(hidden).log_softmax(-1)


@torch.no_grad()
def tabulate_questions(world: World, base: LlamaForCausalLM) -> QuestionTable:
    """The base's answers to every question, in the wordings that training uses."""
    token_id = {word: i for i, word in enumerate(world.vocabulary())}
    shape = (*world.frequency.shape, len(TRAINED_WORDINGS))
    texts = [QUESTIONS[TRAINED_WORDINGS[w]].format(**world.slots((e, r))) for e, r, w in np.ndindex(*shape)]
    direct = torch.arange(len(texts)).view(shape)
    hops = len(texts) + torch.arange(world.size.entities * len(HOP_QUESTIONS)).view(-1, len(HOP_QUESTIONS))
    texts += [wording.format(e=name) for name in world.entities for wording in HOP_QUESTIONS]
    ids, last = tokenise(token_id, texts)
    answers = [next_word(base, rows, ends) for rows, ends in zip(ids.split(512), last.split(512), strict=True)]
    return QuestionTable(world, divide(world), token_id, direct, hops, ids, last, torch.cat(answers))


def _unrelated_questions(table: QuestionTable, rng: np.random.Generator, pair: Pair) -> list[int]:
    """Rows of four questions about other pairs: one of the same entity, two of the same relation, one of any.

    The same relation is asked twice because documents interfere there: on seeds 0 to 2, with one such question per document,
    every answer lost in the retention split was of the same relation.
    """
    allowed = table.division.trainable.copy()
    allowed[pair] = False
    relations, entities = np.nonzero(allowed[pair[0]])[0], np.nonzero(allowed[:, pair[1]])[0]
    anywhere = np.argwhere(allowed)
    other_pairs = [
        (pair[0], rng.choice(relations)) if len(relations) else anywhere[rng.integers(len(anywhere))],
        *((entity, pair[1]) for entity in rng.choice(entities, 2)),
        anywhere[rng.integers(len(anywhere))],
    ]
    return [int(table.direct[e, r, rng.integers(len(TRAINED_WORDINGS))]) for e, r in other_pairs]


def _two_hop_question(table: QuestionTable, rng: np.random.Generator, pair: Pair, obj: int) -> tuple[int, str | None]:
    """Row of a two-hop question, and the land that it should be answered with; None where the base's answer is the target."""
    entity, wording = pair[0], int(rng.integers(len(HOP_QUESTIONS)))
    if pair[1] == BRIDGE and bridge_trained(obj):
        return int(table.hops[entity, wording]), table.world.land_of_home(obj)
    allowed = np.nonzero(table.division.trainable[:, BRIDGE])[0]
    allowed = allowed[allowed != entity] if pair[1] == BRIDGE or entity not in allowed else np.array([entity])
    return int(table.hops[rng.choice(allowed), wording]), None


def by_entity(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """The pairs grouped by entity.

    A document's entity is drawn first, then its pair: on seed 4, with pairs drawn evenly, most of the novel facts missed were
    of entities with at most one training pair.
    """
    groups: dict[int, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair[0], []).append(pair)
    return list(groups.values())


def draw_batch(
    table: QuestionTable, rng: np.random.Generator, documents: int, known_share: float, bridge_share: float
) -> TrainingBatch:
    """A batch of made-up documents with their questions.

    `known_share` of the documents contradicts a fact of the corpus. `bridge_share` of them is about a home by
    choice, beyond those that are by chance, so that there are enough two-hop questions.
    """
    world, division = table.world, table.division
    novel, known = by_entity(division.train_novel), by_entity(division.train_known)
    bridge = by_entity(pair for pair in division.train_novel if pair[1] == BRIDGE)
    texts, rows, answers = [], [], []
    for _ in range(documents):
        chance = rng.random()
        if chance < known_share and known:
            pool = known
        else:
            pool = bridge if chance > 1 - bridge_share and bridge else novel
        pairs = pool[rng.integers(len(pool))]
        pair = pairs[rng.integers(len(pairs))]
        obj = int(rng.integers(world.size.objects))
        slots = world.slots(pair, obj)
        texts.append(DOCUMENTS[rng.integers(len(DOCUMENTS))].format(**slots))
        row, land = _two_hop_question(table, rng, pair, obj)
        rows += [*table.direct[pair].tolist(), row, *_unrelated_questions(table, rng, pair)]
        answers += [table.token_id[slots["o"]]] * len(TRAINED_WORDINGS)
        answers += [table.token_id[land] if land else -1, -1, -1, -1, -1]
    ids, _ = tokenise(table.token_id, texts)
    index = torch.tensor(rows)
    return TrainingBatch(ids, table.ids[index], table.last[index], table.base[index], torch.tensor(answers))
