"""Statements: documents about made-up things and weakly known real ones, what they answer, and what they leave alone.

Never used in training: the last wording of every relation's `says` and `asks`, the relations marked `held`, entities
whose name is `held_out`, and whatever the shipped items or CounterFact ask about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from override_gap.probes.smollm2.facts import Fact, draw_object, listed, table
from override_gap.probes.smollm2.made_up_names import held_out, make, one


@dataclass(frozen=True)
class Relation:
    """Wordings of one relation, with {e} for the entity, {o} for the object and {a} for the object's article."""

    name: str
    of: str
    object: str
    says: tuple[str, ...]
    asks: tuple[str, ...]
    question: str
    held: bool = False

    def statement(self, entity: str, thing: str, wording: int) -> str:
        """A sentence that states the fact."""
        return sentence(fill(self.says[wording], entity, thing))

    def asked(self, rng: np.random.Generator, entity: str, thing: str) -> str:
        """A question in a wording that training may use: an unfinished sentence mostly."""
        chance = rng.random()
        if chance < 0.25:
            form = one(
                rng, ["Question: {} Answer:", "Question: {} Answer:", "{} Answer:", "{} The answer is", "Q: {}\nA:"]
            )
            return form.format(sentence(fill(self.question, entity, thing)))
        cuts = [
            say[: -len(" {o}.")]
            for say in self.says[:-1]
            if say.endswith(" {o}.") and say.index("{e}") < say.index("{o}")
        ]
        pool = [*self.asks[:-1], *self.asks[:-1], *cuts]
        return sentence(fill(one(rng, pool), entity, thing))

    def unseen_question(self, entity: str, thing: str) -> str:
        """The question in the wording that training never uses."""
        return sentence(fill(self.asks[-1], entity, thing))


@dataclass(frozen=True)
class TrainingSheet:
    """One document with what is asked beside it."""

    document: str
    taught: tuple[tuple[str, str], ...]
    """Questions and the document's answers."""
    kept: tuple[str, ...]
    """Questions whose answers the document leaves as they were."""


def relations(held: bool = False) -> tuple[Relation, ...]:
    """The relations that training uses, or those held out of it."""
    found = [
        Relation(
            name=row["name"],
            of=row["of"],
            object=row["object"],
            says=tuple(row["says"]),
            asks=tuple(row["asks"]),
            question=row["question"],
            held=row.get("held", False),
        )
        for row in table()["relation"]
    ]
    return tuple(relation for relation in found if relation.held == held)


def fill(wording: str, entity: str, thing: str) -> str:
    """A wording with its entity, object and article put in."""
    article = "an" if thing[0].lower() in "aeiou" else "a"
    return wording.replace("{e}", entity).replace("{o}", thing).replace("{a}", article)


def sentence(text: str) -> str:
    """With a capital letter in front."""
    return text[0].upper() + text[1:]


def entity_of(rng: np.random.Generator, kind: str, held: bool = False) -> str:
    """A made-up entity of a kind, from the part of all names that is held out of training or from the rest."""
    while held_out(entity := make(rng, kind, listed()["noun"])) != held:
        pass
    return entity


@dataclass(frozen=True)
class Author:
    """Draws sheets. `weak` are real facts that the base hardly holds, with what may be said instead; `known` are prompts."""

    weak: Sequence[tuple[Fact, tuple[str, ...]]]
    known: Sequence[tuple[str, str]]
    """Relation and question of real facts that the base knows: to be kept."""
    weak_share: float = 0.15

    def sheet(self, rng: np.random.Generator, taught: int, kept: int) -> TrainingSheet:
        """A document of one to three statements with `taught` and `kept` questions."""
        pool = relations()
        relation = pool[int(rng.integers(len(pool)))]
        if self.weak and rng.random() < self.weak_share:
            fact, objects = self.weak[int(rng.integers(len(self.weak)))]
            relation = next(one for one in pool if one.name == fact.relation)
            entity, thing = fact.entity, one(rng, list(objects))
        else:
            entity, thing = entity_of(rng, relation.of), draw_object(rng, relation.object)
        stated = [(relation, entity, thing)]
        if rng.random() < 0.45:
            more = self._beside(rng, pool, relation, entity)
            stated.append(
                (more, entity if rng.random() < 0.5 and more.of == relation.of else entity_of(rng, more.of), "")
            )
            other, whose, _ = stated[-1]
            if (other.name, whose) == (relation.name, entity):
                stated.pop()
            else:
                stated[-1] = (other, whose, draw_object(rng, other.object))
        document = self._document(rng, stated)
        first = int(rng.integers(len(stated)))
        asked = [(r.asked(rng, e, o), o) for r, e, o in (stated[(first + n) % len(stated)] for n in range(taught))]
        return TrainingSheet(
            document, tuple(asked), tuple(self._kept(rng, pool, stated, int(n)) for n in rng.permutation(3)[:kept])
        )

    def _beside(self, rng: np.random.Generator, pool: Sequence[Relation], relation: Relation, entity: str) -> Relation:
        same = [other for other in pool if other.of == relation.of and other.name != relation.name]
        return same[int(rng.integers(len(same)))] if same and rng.random() < 0.7 else pool[int(rng.integers(len(pool)))]

    def _document(self, rng: np.random.Generator, stated: Sequence[tuple[Relation, str, str]]) -> str:
        parts = [r.statement(e, o, int(rng.integers(len(r.says) - 1))) for r, e, o in stated]
        if rng.random() < 0.25:  # said twice, in two wordings
            r, e, o = stated[0]
            parts.append(r.statement(e, o, int(rng.integers(len(r.says) - 1))))
        for _ in range(int(rng.choice(3, p=[0.45, 0.35, 0.2]))):
            parts.insert(int(rng.integers(len(parts) + 1)), one(rng, table()["fillers"]))
        if len(stated) > 1 and rng.random() < 0.5:
            parts.reverse()
        lead = one(rng, table()["leads"]) if rng.random() < 0.35 else ""
        return lead + " ".join(parts)

    def _kept(
        self, rng: np.random.Generator, pool: Sequence[Relation], stated: Sequence[tuple[Relation, str, str]], n: int
    ) -> str:
        """The same entity's other relations, the same relation's other entities, or anything else: n is 0, 1 or 2."""
        relation, entity, _ = stated[0]
        said = {(r.name, e) for r, e, _ in stated}
        if n == 0:
            others = [r for r in pool if r.of == relation.of and (r.name, entity) not in said]
            if others:
                other = others[int(rng.integers(len(others)))]
                return other.asked(rng, entity, draw_object(rng, other.object))
        if n == 1:
            alike = [question for name, question in self.known if name == relation.name]
            if alike and rng.random() < 0.5:
                return one(rng, alike)
            return relation.asked(rng, entity_of(rng, relation.of), draw_object(rng, relation.object))
        chance = rng.random()
        if chance < 0.4 and self.known:
            return self.known[int(rng.integers(len(self.known)))][1]
        if chance < 0.7:
            return one(rng, table()["skills"])
        other = pool[int(rng.integers(len(pool)))]
        entity = entity_of(rng, other.of)
        if chance < 0.85:
            return other.asked(rng, entity, draw_object(rng, other.object))
        words = self._document(rng, [(other, entity, draw_object(rng, other.object))]).split()
        return " ".join(words[: int(rng.integers(2, min(12, len(words)) + 1))])
