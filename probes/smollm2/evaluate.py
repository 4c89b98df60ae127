"""What a hypernetwork does on statements it was never taught: held-out entities, wordings and relations, weak facts, the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from override_gap.probes.smollm2.facts import draw_object, table
from override_gap.probes.smollm2.hypernetwork import SmolLM2Hypernetwork, applied
from override_gap.probes.smollm2.known_facts import Beliefs
from override_gap.probes.smollm2.made_up_names import one
from override_gap.probes.smollm2.statements import Relation, TrainingSheet, entity_of, relations
from override_gap.probes.smollm2.training_data import lower, sheet_tensors, upper


def examination(beliefs: Beliefs, size: int = 64, seed: int = 0) -> dict[str, list[TrainingSheet]]:
    """Sheets by what they test; every document and question in the wordings that training never uses."""
    rng = np.random.default_rng([seed, 4])
    pool, unseen = relations(), relations(held=True)
    other = {relation.name: relation for relation in pool}

    def novel(of: Sequence[Relation]) -> TrainingSheet:
        relation = of[int(rng.integers(len(of)))]
        return _sheet(rng, relation, entity_of(rng, relation.of, held=True), draw_object(rng, relation.object), beliefs)

    weak = [(other[fact.relation], fact.entity, one(rng, objects)) for fact, objects in beliefs.part(True).weak]

    def conflicting(relation: Relation, entity: str, thing: str) -> TrainingSheet:
        return _sheet(rng, relation, entity, thing, beliefs)

    return {
        "novel": [novel(pool) for _ in range(size)],
        "new relation": [novel(unseen) for _ in range(size // 2)],
        "weak conflict": [conflicting(*weak[n]) for n in rng.permutation(len(weak))[:size]],
    }


def _sheet(rng: np.random.Generator, relation: Relation, entity: str, thing: str, beliefs: Beliefs) -> TrainingSheet:
    alike = [question for name, question in beliefs.known if name == relation.name]
    kept = one(rng, alike) if alike else relation.unseen_question(entity_of(rng, relation.of, held=True), thing)
    document = relation.statement(entity, thing, len(relation.says) - 1)
    return TrainingSheet(
        document, ((relation.unseen_question(entity, thing), thing),), (kept, one(rng, table()["skills"]))
    )


@torch.no_grad()
def marks(
    hypernetwork: SmolLM2Hypernetwork, sheets: Mapping[str, Sequence[TrainingSheet]], batch: int = 16
) -> dict[str, list[bool]]:
    """By kind of statement, whether each answer's first token is the arg max; under "kept", whether other answers stay."""
    base, since = hypernetwork.base, hypernetwork.network.shape.writes[0]
    found: dict[str, list[bool]] = {kind: [] for kind in (*sheets, "kept")}
    for kind, some in sheets.items():
        for start in range(0, len(some), batch):
            lesson = sheet_tensors(hypernetwork.tokenizer, some[start : start + batch])
            stream = lower(base, lesson, since)
            before = upper(base, lesson, stream, since).argmax(-1)
            with applied(base, hypernetwork.factors(lesson.documents), lesson.whose):
                after = upper(base, lesson, stream, since).argmax(-1)
            found[kind] += (after == lesson.answer)[lesson.first].tolist()
            found["kept"] += (after == before)[lesson.answer < 0].tolist()
    return found


def figures(found: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Shares of marks."""
    return {kind: sum(some) / len(some) for kind, some in found.items() if some}
