"""Training statements: their form, and that nothing held out or examined is among them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from override_gap.margins.items.files import read_items
from override_gap.margins.items.item import Item
from override_gap.probes.smollm2.facts import facts, table
from override_gap.probes.smollm2.made_up_names import held_out
from override_gap.probes.smollm2.statements import Author, Relation, TrainingSheet, entity_of, fill, relations

DATA = Path(__file__).parents[3] / "margins" / "data"


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [item for file in sorted(DATA.rglob("*.jsonl")) for item in read_items(file)]


@pytest.fixture(scope="module")
def sheets() -> list[TrainingSheet]:
    weak = tuple((fact, ("Somewhere",)) for fact in facts() if fact.relation == "country" and not held_out(fact.entity))
    author = Author(weak, (("capital", "The capital of Nowhereland is"),))
    return [author.sheet(np.random.default_rng(n), 2, 3) for n in range(600)]


def test_every_relation_is_well_formed() -> None:
    for relation in (*relations(), *relations(held=True)):
        assert len(relation.says) >= 4, relation.name
        assert len(relation.asks) >= 3, relation.name
        assert all("{e}" in say and "{o}" in say for say in relation.says), relation.name
        assert all("{e}" in ask and "{o}" not in ask for ask in (*relation.asks, relation.question)), relation.name
        assert relation.question.endswith("?"), relation.name
        for wording in (*relation.says, *relation.asks):
            assert not re.search(r"\{(?!e\}|o\}|a\})", wording), wording
    names = [relation.name for relation in (*relations(), *relations(held=True))]
    assert len(names) == len(set(names))
    assert len(relations(held=True)) >= 5


def test_a_documents_answers_stand_in_it(sheets: list[TrainingSheet]) -> None:
    for sheet in sheets:
        assert len(sheet.taught) == 2
        assert len(sheet.kept) == 3
        assert all(answer.lower() in sheet.document.lower() for _, answer in sheet.taught)


def test_what_is_kept_is_not_what_is_taught(sheets: list[TrainingSheet]) -> None:
    for sheet in sheets:
        assert not {question for question, _ in sheet.taught} & set(sheet.kept)


def test_held_out_wordings_and_relations_are_never_drawn(sheets: list[TrainingSheet]) -> None:
    def shape(wording: str) -> re.Pattern[str]:
        middle = re.escape(wording).replace(r"\{e\}", "(.+?)").replace(r"\{o\}", "(.+?)").replace(r"\{a\}", "an?")
        return re.compile(middle, re.IGNORECASE)

    trained = {shape(w).pattern for r in relations() for w in (*r.says[:-1], *r.asks[:-1])}
    unseen = [shape(r.says[-1]) for r in relations()]
    unseen += [shape(w) for r in relations(held=True) for w in (*r.says, *r.asks)]
    texts = [text for sheet in sheets for text in (sheet.document, *(q for q, _ in sheet.taught), *sheet.kept)]
    # a long wording is told by its text; two relations may share a short one
    long = [one for one in unseen if len(one.pattern) > 45 and one.pattern not in trained]
    assert len(long) > 50
    assert not [(one.pattern, text) for one in long for text in texts if one.fullmatch(text)]


def test_entities_are_divided_by_their_names() -> None:
    rng = np.random.default_rng(0)
    for held in (True, False):
        assert all(held_out(entity_of(rng, "town", held)) == held for _ in range(50))
    assert 0.08 < np.mean([held_out(f"name {n}") for n in range(4000)]) < 0.17


def test_real_entities_of_the_shipped_items_are_left_out(items: list[Item]) -> None:
    asked = {str(item.meta["subject"]).lower() for item in items if item.meta.get("subject")}
    assert len(asked) > 100
    entities = {fact.entity.lower() for fact in facts()}
    assert len(entities) > 500
    assert not entities & asked
    assert not entities & {entity.lower() for entity in table()["withheld"]}


def test_no_text_of_training_is_a_shipped_items(sheets: list[TrainingSheet], items: list[Item]) -> None:
    examined = {text for item in items for text in (item.document, item.question)}
    drawn = {text for sheet in sheets for text in (sheet.document, *sheet.kept, *(q for q, _ in sheet.taught))}
    assert not drawn & examined
    assert not set(table()["skills"]) & examined
    made_up = [str(item.meta["subject"]) for item in items if item.split == "novel" and "subject" in item.meta]
    assert len(made_up) > 200
    assert not [(name, text) for name in made_up for text in drawn if name in text]


def test_an_article_goes_with_its_object() -> None:
    assert fill("{e} is {a} {o}.", "X", "oak") == "X is an oak."
    relation = Relation("r", "town", "noun", ("{e} has {a} {o}.",), ("{e} has {a}",), "What has {e}?")
    assert relation.unseen_question("the bell", "apple") == "The bell has an"
    assert json.dumps(relation.statement("the bell", "pear", 0)) == '"The bell has a pear."'
