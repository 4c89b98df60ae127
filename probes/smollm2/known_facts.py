"""What the base believes of real facts: which it knows, and which it holds so weakly that a document may contradict them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM

from override_gap.probes.smollm2.facts import Fact, draw_object, facts
from override_gap.probes.smollm2.made_up_names import held_out
from override_gap.probes.smollm2.packing import pack, through
from override_gap.probes.smollm2.statements import relations, sentence

WEAK = 2.0
"""Nats. A fact may be contradicted by an object only where the base prefers the truth by less than this."""


@dataclass(frozen=True)
class Beliefs:
    """Real facts, judged by the base's next token after the relation's first wording."""

    weak: tuple[tuple[Fact, tuple[str, ...]], ...]
    """Facts that the base does not name, with objects whose prior margin is below `WEAK`."""
    known: tuple[tuple[str, str], ...]
    """Relation and question of facts whose first token is the base's own answer."""

    def part(self, held: bool) -> Beliefs:
        """The weak facts about entities held out of training, or the others."""
        return Beliefs(tuple(one for one in self.weak if held_out(one[0].entity) == held), self.known)


@torch.no_grad()
def judge(base: LlamaForCausalLM, tokenizer: Any, chosen: Sequence[Fact], seed: int = 0, batch: int = 32) -> Beliefs:
    """Ask the base every fact once."""
    rng = np.random.default_rng([seed, 2])
    wording = {relation.name: relation for relation in relations()}
    weak, known = [], []
    for start in range(0, len(chosen), batch):
        some = chosen[start : start + batch]
        asked = [sentence(wording[fact.relation].asks[0].replace("{e}", fact.entity)) for fact in some]
        rows = [tokenizer(question)["input_ids"] for question in asked]
        texts = pack(rows)
        stream = through(base, texts, base.model.embed_tokens(texts.ids), range(len(base.model.layers)))
        last = [start + len(row) - 1 for start, row in zip(texts.start, rows, strict=True)]
        logits = base.lm_head(base.model.norm(stream[list(texts.row), last])).float()
        for fact, question, row, at in zip(some, asked, rows, logits, strict=True):

            def first(answer: str, question: str = question, row: list[int] = row) -> int:
                return tokenizer(f"{question} {answer}")["input_ids"][len(row)]

            truth = first(fact.object)
            if int(at.argmax()) == truth:
                known.append((fact.relation, question))
                continue
            drawn = {draw_object(rng, wording[fact.relation].object) for _ in range(8)}
            allowed = [o for o in sorted(drawn) if first(o) != truth and at[truth] - at[first(o)] < WEAK]
            if allowed:
                weak.append((fact, tuple(allowed)))
    return Beliefs(tuple(weak), tuple(known))


def sample(seed: int, most: int = 140) -> list[Fact]:
    """Real facts, at most so many of one relation."""
    rng = np.random.default_rng([seed, 3])
    pool = [facts()[n] for n in rng.permutation(len(facts()))]
    by_relation: dict[str, list[Fact]] = {}
    for fact in pool:
        by_relation.setdefault(fact.relation, []).append(fact)
    return [fact for some in by_relation.values() for fact in some[:most]]
