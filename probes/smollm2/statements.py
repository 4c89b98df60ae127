"""Training documents: statements about made-up or weakly known real entities, questions on them, and retention questions.

Held out of training: the last wording of every relation's statements and prompts, the relations marked `held` in
relations.toml, entities whose name `is_held_out`, and everything that the shipped items or CounterFact ask about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from override_gap.probes.smollm2.facts import Fact, draw_object, object_lists, relations_table
from override_gap.probes.smollm2.made_up_names import choose, is_held_out, made_up_entity


@dataclass(frozen=True)
class Relation:
    """Wordings of one relation; {e} is the entity, {o} the object and {a} the object's article."""

    name: str
    entity_kind: str
    object_kind: str
    statements: tuple[str, ...]
    prompts: tuple[str, ...]
    """Sentences that end where the object begins."""
    question: str
    held_out: bool = False

    def statement(self, entity: str, thing: str, wording: int) -> str:
        """A sentence that states the fact."""
        return capitalised(fill_wording(self.statements[wording], entity, thing))

    def draw_question(self, rng: np.random.Generator, entity: str, thing: str) -> str:
        """A question in one of the trained wordings, mostly an unfinished sentence."""
        chance = rng.random()
        if chance < 0.25:
            form = choose(
                rng, ["Question: {} Answer:", "Question: {} Answer:", "{} Answer:", "{} The answer is", "Q: {}\nA:"]
            )
            return form.format(capitalised(fill_wording(self.question, entity, thing)))
        unfinished = [
            statement[: -len(" {o}.")]
            for statement in self.statements[:-1]
            if statement.endswith(" {o}.") and statement.index("{e}") < statement.index("{o}")
        ]
        wordings = [*self.prompts[:-1], *self.prompts[:-1], *unfinished]
        return capitalised(fill_wording(choose(rng, wordings), entity, thing))

    def unseen_question(self, entity: str, thing: str) -> str:
        """The question in the wording that is held out of training."""
        return capitalised(fill_wording(self.prompts[-1], entity, thing))


@dataclass(frozen=True)
class TrainingDocument:
    """One document with its questions."""

    text: str
    answered: tuple[tuple[str, str], ...]
    """Questions that the document answers, with its answers."""
    retained: tuple[str, ...]
    """Questions whose answers should stay those of the base."""


def relations(held_out: bool = False) -> tuple[Relation, ...]:
    """The relations that training uses, or those held out of it."""
    all_relations = [
        Relation(
            name=row["name"],
            entity_kind=row["of"],
            object_kind=row["object"],
            statements=tuple(row["says"]),
            prompts=tuple(row["asks"]),
            question=row["question"],
            held_out=row.get("held", False),
        )
        for row in relations_table()["relation"]
    ]
    return tuple(relation for relation in all_relations if relation.held_out == held_out)


def fill_wording(wording: str, entity: str, thing: str) -> str:
    """The wording with entity, object and article filled in."""
    article = "an" if thing[0].lower() in "aeiou" else "a"
    return wording.replace("{e}", entity).replace("{o}", thing).replace("{a}", article)


def capitalised(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[0].upper() + text[1:]


def draw_entity(rng: np.random.Generator, kind: str, held_out: bool = False) -> str:
    """A made-up entity of a kind, among the names held out of training or among the others."""
    while is_held_out(entity := made_up_entity(rng, kind, object_lists()["noun"])) != held_out:
        pass
    return entity


@dataclass(frozen=True)
class DocumentSampler:
    """Samples training documents."""

    weak: Sequence[tuple[Fact, tuple[str, ...]]]
    """Real facts that the base holds weakly, with objects that may contradict them."""
    known: Sequence[tuple[str, str]]
    """Relation and question of real facts that the base knows: retention questions."""
    weak_share: float = 0.15
    """Share of documents that contradict a weakly held fact; the others are about made-up entities."""

    def sample(self, rng: np.random.Generator, answered: int, retained: int) -> TrainingDocument:
        """A document on one or two facts, with `answered` questions on them and `retained` retention questions."""
        pool = relations()
        relation = pool[int(rng.integers(len(pool)))]
        if self.weak and rng.random() < self.weak_share:
            fact, objects = self.weak[int(rng.integers(len(self.weak)))]
            relation = next(candidate for candidate in pool if candidate.name == fact.relation)
            entity, thing = fact.entity, choose(rng, list(objects))
        else:
            entity, thing = draw_entity(rng, relation.entity_kind), draw_object(rng, relation.object_kind)
        stated = [(relation, entity, thing)]
        if rng.random() < 0.45:
            other = self._second_relation(rng, pool, relation)
            if rng.random() < 0.5 and other.entity_kind == relation.entity_kind:
                subject = entity
            else:
                subject = draw_entity(rng, other.entity_kind)
            if (other.name, subject) != (relation.name, entity):
                stated.append((other, subject, draw_object(rng, other.object_kind)))
        document = self._document(rng, stated)
        first = int(rng.integers(len(stated)))
        facts = [stated[(first + n) % len(stated)] for n in range(answered)]
        questions = [(r.draw_question(rng, e, o), o) for r, e, o in facts]
        retention = [self._retention_question(rng, pool, stated, int(n)) for n in rng.permutation(3)[:retained]]
        return TrainingDocument(document, tuple(questions), tuple(retention))

    def _second_relation(self, rng: np.random.Generator, pool: Sequence[Relation], relation: Relation) -> Relation:
        """Another relation of the same kind of entity (70%), or any relation."""
        same = [other for other in pool if other.entity_kind == relation.entity_kind and other.name != relation.name]
        return same[int(rng.integers(len(same)))] if same and rng.random() < 0.7 else pool[int(rng.integers(len(pool)))]

    def _document(self, rng: np.random.Generator, stated: Sequence[tuple[Relation, str, str]]) -> str:
        """The statements in random wordings, with filler sentences and sometimes a lead-in."""
        sentences = [r.statement(e, o, int(rng.integers(len(r.statements) - 1))) for r, e, o in stated]
        if rng.random() < 0.25:  # one fact stated twice, in two random wordings
            r, e, o = stated[0]
            sentences.append(r.statement(e, o, int(rng.integers(len(r.statements) - 1))))
        for _ in range(int(rng.choice(3, p=[0.45, 0.35, 0.2]))):
            sentences.insert(int(rng.integers(len(sentences) + 1)), choose(rng, relations_table()["fillers"]))
        if len(stated) > 1 and rng.random() < 0.5:
            sentences.reverse()
        lead_in = choose(rng, relations_table()["leads"]) if rng.random() < 0.35 else ""
        return lead_in + " ".join(sentences)

    def _retention_question(
        self, rng: np.random.Generator, pool: Sequence[Relation], stated: Sequence[tuple[Relation, str, str]], n: int
    ) -> str:
        """A retention question of one of three kinds.

        n = 0: another relation of the document's entity; 1: the same relation of another entity; 2: anything else.
        """
        relation, entity, _ = stated[0]
        stated_pairs = {(r.name, e) for r, e, _ in stated}
        if n == 0:
            others = [r for r in pool if r.entity_kind == relation.entity_kind and (r.name, entity) not in stated_pairs]
            if others:
                other = others[int(rng.integers(len(others)))]
                return other.draw_question(rng, entity, draw_object(rng, other.object_kind))
        if n == 1:
            known = [question for name, question in self.known if name == relation.name]
            if known and rng.random() < 0.5:
                return choose(rng, known)
            return relation.draw_question(
                rng, draw_entity(rng, relation.entity_kind), draw_object(rng, relation.object_kind)
            )
        chance = rng.random()
        if chance < 0.4 and self.known:
            return self.known[int(rng.integers(len(self.known)))][1]
        if chance < 0.7:
            return choose(rng, relations_table()["skills"])
        other = pool[int(rng.integers(len(pool)))]
        entity = draw_entity(rng, other.entity_kind)
        if chance < 0.85:
            return other.draw_question(rng, entity, draw_object(rng, other.object_kind))
        words = self._document(rng, [(other, entity, draw_object(rng, other.object_kind))]).split()
        return " ".join(words[: int(rng.integers(2, min(12, len(words)) + 1))])
