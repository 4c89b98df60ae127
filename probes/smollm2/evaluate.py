"""Accuracy on held-out statements: unseen entities, wordings and relations, weakly held real facts, unrelated answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from override_gap.probes.smollm2.facts import draw_object, relations_table
from override_gap.probes.smollm2.hypernetwork import SmolLM2Hypernetwork, applied
from override_gap.probes.smollm2.known_facts import BaseKnowledge
from override_gap.probes.smollm2.made_up_names import choose
from override_gap.probes.smollm2.statements import Relation, TrainingDocument, draw_entity, relations
from override_gap.probes.smollm2.training_data import document_batch, run_lower_layers, run_upper_layers


def build_examination(knowledge: BaseKnowledge, size: int = 64, seed: int = 0) -> dict[str, list[TrainingDocument]]:
    """Documents by what they test; every statement and question is in the wordings held out of training."""
    rng = np.random.default_rng([seed, 4])
    trained, unseen = relations(), relations(held_out=True)
    by_name = {relation.name: relation for relation in trained}

    def novel(pool: Sequence[Relation]) -> TrainingDocument:
        relation = pool[int(rng.integers(len(pool)))]
        entity = draw_entity(rng, relation.entity_kind, held_out=True)
        return _document(rng, relation, entity, draw_object(rng, relation.object_kind), knowledge)

    weak = [
        (by_name[fact.relation], fact.entity, choose(rng, objects))
        for fact, objects in knowledge.select(held_out=True).weak
    ]

    def conflicting(relation: Relation, entity: str, thing: str) -> TrainingDocument:
        return _document(rng, relation, entity, thing, knowledge)

    return {
        "novel": [novel(trained) for _ in range(size)],
        "new relation": [novel(unseen) for _ in range(size // 2)],
        "weak conflict": [conflicting(*weak[n]) for n in rng.permutation(len(weak))[:size]],
    }


def _document(
    rng: np.random.Generator, relation: Relation, entity: str, thing: str, knowledge: BaseKnowledge
) -> TrainingDocument:
    known = [question for name, question in knowledge.known if name == relation.name]
    if known:
        retained = choose(rng, known)
    else:
        retained = relation.unseen_question(draw_entity(rng, relation.entity_kind, held_out=True), thing)
    document = relation.statement(entity, thing, len(relation.statements) - 1)
    return TrainingDocument(
        document,
        ((relation.unseen_question(entity, thing), thing),),
        (retained, choose(rng, relations_table()["skills"])),
    )


@torch.no_grad()
def first_token_successes(
    hypernetwork: SmolLM2Hypernetwork, documents: Mapping[str, Sequence[TrainingDocument]], batch_size: int = 16
) -> dict[str, list[bool]]:
    """By kind of document, whether each answer's first token is the arg max.

    Under "kept": whether the arg max of each retention question is the same with and without the update.
    """
    base, first_layer = hypernetwork.base, hypernetwork.network.shape.writes[0]
    successes: dict[str, list[bool]] = {kind: [] for kind in (*documents, "kept")}
    for kind, examples in documents.items():
        for start in range(0, len(examples), batch_size):
            batch = document_batch(hypernetwork.tokenizer, examples[start : start + batch_size])
            residual = run_lower_layers(base, batch, first_layer)
            before = run_upper_layers(base, batch, residual, first_layer).argmax(-1)
            with applied(base, hypernetwork.factors(batch.documents), batch.document_of):
                after = run_upper_layers(base, batch, residual, first_layer).argmax(-1)
            successes[kind] += (after == batch.answer)[batch.first].tolist()
            successes["kept"] += (after == before)[batch.answer < 0].tolist()
    return successes


def accuracies(successes: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Share of successes by kind of document; kinds without any document are left out."""
    return {kind: sum(outcomes) / len(outcomes) for kind, outcomes in successes.items() if outcomes}
