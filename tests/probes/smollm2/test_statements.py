"""Training documents: their form, and that nothing held out or examined is among them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from override_gap.margins.items.files import read_items
from override_gap.margins.items.item import Item
from override_gap.probes.smollm2.facts import real_facts, relations_table
from override_gap.probes.smollm2.made_up_names import is_held_out
from override_gap.probes.smollm2.statements import (
    DocumentSampler,
    Relation,
    TrainingDocument,
    draw_entity,
    fill_wording,
    relations,
)

DATA = Path(__file__).parents[3] / "margins" / "data"


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [item for file in sorted(DATA.rglob("*.jsonl")) for item in read_items(file)]


@pytest.fixture(scope="module")
def documents() -> list[TrainingDocument]:
    weak = tuple(
        (fact, ("Somewhere",)) for fact in real_facts() if fact.relation == "country" and not is_held_out(fact.entity)
    )
    sampler = DocumentSampler(weak, (("capital", "The capital of Nowhereland is"),))
    return [sampler.sample(np.random.default_rng(n), 2, 3) for n in range(600)]


def test_every_relation_is_well_formed() -> None:
    for relation in (*relations(), *relations(held_out=True)):
        assert len(relation.statements) >= 4, relation.name
        assert len(relation.prompts) >= 3, relation.name
        assert all("{e}" in statement and "{o}" in statement for statement in relation.statements), relation.name
        assert all("{e}" in prompt and "{o}" not in prompt for prompt in (*relation.prompts, relation.question)), (
            relation.name
        )
        assert relation.question.endswith("?"), relation.name
        for wording in (*relation.statements, *relation.prompts):
            assert not re.search(r"\{(?!e\}|o\}|a\})", wording), wording
    names = [relation.name for relation in (*relations(), *relations(held_out=True))]
    assert len(names) == len(set(names))
    assert len(relations(held_out=True)) >= 5


def test_a_document_contains_its_answers(documents: list[TrainingDocument]) -> None:
    for document in documents:
        assert len(document.answered) == 2
        assert len(document.retained) == 3
        assert all(answer.lower() in document.text.lower() for _, answer in document.answered)


def test_retention_questions_are_not_answered_by_the_document(documents: list[TrainingDocument]) -> None:
    for document in documents:
        assert not {question for question, _ in document.answered} & set(document.retained)


def test_held_out_wordings_and_relations_are_never_drawn(documents: list[TrainingDocument]) -> None:
    def pattern(wording: str) -> re.Pattern[str]:
        regex = re.escape(wording).replace(r"\{e\}", "(.+?)").replace(r"\{o\}", "(.+?)").replace(r"\{a\}", "an?")
        return re.compile(regex, re.IGNORECASE)

    trained = {pattern(w).pattern for r in relations() for w in (*r.statements[:-1], *r.prompts[:-1])}
    unseen = [pattern(r.statements[-1]) for r in relations()]
    unseen += [pattern(w) for r in relations(held_out=True) for w in (*r.statements, *r.prompts)]
    texts = [
        text
        for document in documents
        for text in (document.text, *(q for q, _ in document.answered), *document.retained)
    ]
    # only long wordings identify their relation: two relations may share a short one
    long = [wording for wording in unseen if len(wording.pattern) > 45 and wording.pattern not in trained]
    assert len(long) > 50
    assert not [(wording.pattern, text) for wording in long for text in texts if wording.fullmatch(text)]


def test_an_eighth_of_the_names_is_held_out() -> None:
    rng = np.random.default_rng(0)
    for held_out in (True, False):
        assert all(is_held_out(draw_entity(rng, "town", held_out)) == held_out for _ in range(50))
    assert 0.08 < np.mean([is_held_out(f"name {n}") for n in range(4000)]) < 0.17


def test_real_entities_of_the_shipped_items_are_left_out(items: list[Item]) -> None:
    subjects = {str(item.meta["subject"]).lower() for item in items if item.meta.get("subject")}
    assert len(subjects) > 100
    entities = {fact.entity.lower() for fact in real_facts()}
    assert len(entities) > 500
    assert not entities & subjects
    assert not entities & {entity.lower() for entity in relations_table()["withheld"]}


def test_no_training_text_is_a_shipped_item(documents: list[TrainingDocument], items: list[Item]) -> None:
    examined = {text for item in items for text in (item.document, item.question)}
    drawn = {
        text
        for document in documents
        for text in (document.text, *document.retained, *(q for q, _ in document.answered))
    }
    assert not drawn & examined
    assert not set(relations_table()["skills"]) & examined
    made_up = [str(item.meta["subject"]) for item in items if item.split == "novel" and "subject" in item.meta]
    assert len(made_up) > 200
    assert not [(name, text) for name in made_up for text in drawn if name in text]


def test_an_article_goes_with_its_object() -> None:
    assert fill_wording("{e} is {a} {o}.", "X", "oak") == "X is an oak."
    relation = Relation("r", "town", "noun", ("{e} has {a} {o}.",), ("{e} has {a}",), "What has {e}?")
    assert relation.unseen_question("the bell", "apple") == "The bell has an"
    assert json.dumps(relation.statement("the bell", "pear", 0)) == '"The bell has a pear."'
