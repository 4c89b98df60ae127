"""Which real facts the base knows, and which it holds so weakly that a training document may contradict them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM

from override_gap.probes.smollm2.facts import Fact, draw_object, real_facts
from override_gap.probes.smollm2.made_up_names import is_held_out
from override_gap.probes.smollm2.packing import pack, run_layers
from override_gap.probes.smollm2.statements import capitalised, relations

WEAK = 2.0
"""Nats. An object may contradict a fact only where the base's margin for the true object is below this."""


@dataclass(frozen=True)
class BaseKnowledge:
    """Real facts, sorted by the base's next token after the relation's first prompt."""

    weak: tuple[tuple[Fact, tuple[str, ...]], ...]
    """Facts whose true object is not the base's arg max, with objects whose prior margin is below `WEAK`."""
    known: tuple[tuple[str, str], ...]
    """Relation and question of facts whose true object's first token is the base's arg max."""

    def select(self, *, held_out: bool) -> BaseKnowledge:
        """With only the weak facts about entities held out of training, or only the others."""
        weak = tuple((fact, objects) for fact, objects in self.weak if is_held_out(fact.entity) == held_out)
        return BaseKnowledge(weak, self.known)


@torch.no_grad()
def probe_facts(
    base: LlamaForCausalLM, tokenizer: Any, facts: Sequence[Fact], seed: int = 0, batch_size: int = 32
) -> BaseKnowledge:
    """The base's answer to every fact, asked once."""
    rng = np.random.default_rng([seed, 2])
    by_name = {relation.name: relation for relation in relations()}
    weak, known = [], []
    for start in range(0, len(facts), batch_size):
        batch = facts[start : start + batch_size]
        questions = [capitalised(by_name[fact.relation].prompts[0].replace("{e}", fact.entity)) for fact in batch]
        rows = [tokenizer(question)["input_ids"] for question in questions]
        texts = pack(rows)
        residual = run_layers(base, texts, base.model.embed_tokens(texts.ids), range(len(base.model.layers)))
        last = [first + len(row) - 1 for first, row in zip(texts.start, rows, strict=True)]
        logits = base.lm_head(base.model.norm(residual[list(texts.row), last])).float()
        for fact, question, row, next_token in zip(batch, questions, rows, logits, strict=True):

            def first_token(answer: str, question: str = question, row: list[int] = row) -> int:
                return tokenizer(f"{question} {answer}")["input_ids"][len(row)]

            truth = first_token(fact.object)
            if int(next_token.argmax()) == truth:
                known.append((fact.relation, question))
                continue
            drawn = {draw_object(rng, by_name[fact.relation].object_kind) for _ in range(8)}
            allowed = [
                candidate
                for candidate in sorted(drawn)
                if first_token(candidate) != truth and next_token[truth] - next_token[first_token(candidate)] < WEAK
            ]
            if allowed:
                weak.append((fact, tuple(allowed)))
    return BaseKnowledge(tuple(weak), tuple(known))


def sample_facts(seed: int, per_relation: int = 140) -> list[Fact]:
    """Real facts in random order, at most `per_relation` of each relation."""
    rng = np.random.default_rng([seed, 3])
    shuffled = [real_facts()[n] for n in rng.permutation(len(real_facts()))]
    by_relation: dict[str, list[Fact]] = {}
    for fact in shuffled:
        by_relation.setdefault(fact.relation, []).append(fact)
    return [fact for same_relation in by_relation.values() for fact in same_relation[:per_relation]]
