"""Null documents: the rule stated again by brute force, on sets where it could be broken."""

from __future__ import annotations

import random

import pytest

from override_gap.margins.items import null_documents
from override_gap.margins.items.item import Item
from override_gap.margins.items.item_set import ItemSet
from override_gap.margins.items.null_documents import NullDocuments

CITIES = "Lyon Paris Rome Turin Berlin Bonn Madrid Oslo Bergen Vienna".split()


def items(n: int = 40, seed: int = 0, points: int = 15) -> list[Item]:
    """Items of three relations; several documents of one point, several items of one document, answers that come again."""
    draw = random.Random(seed)
    made = []
    for k in range(n):
        document = k % (2 * n // 3)
        answer, prior = draw.sample(CITIES, 2)
        text = f"Text {document} says {CITIES[document % len(CITIES)]} ."
        split = draw.choice(["conflict", "conflict", "novel", "retention"])
        answer = CITIES[document % len(CITIES)] if split != "retention" else answer
        prior = prior if prior != answer else CITIES[(CITIES.index(answer) + 1) % len(CITIES)]
        meta = {"relation": ["capital", "river", "mayor"][document % 3]} if document % 7 else {}
        old = prior if split == "conflict" else None
        made.append(Item(f"i{k}", f"p{document % points}", split, text, f"Question {k}", answer, old, meta=meta))
    return made


@pytest.mark.parametrize("seed", range(5))
def test_a_partner_is_another_document_of_another_point_and_answer(seed: int) -> None:
    given = items(seed=seed)
    points: dict[str, set[str]] = {}
    relations: dict[str, set[str]] = {}
    for item in given:
        points.setdefault(item.document, set()).add(item.point)
        if item.meta:
            relations.setdefault(item.document, set()).add(item.meta["relation"])
    nulls = NullDocuments.of(ItemSet.of(given))

    def allowed(item: Item, text: str) -> bool:
        named = {item.answer, item.prior_answer} & set(text.replace(".", " ").split())
        return text != item.document and not points[text] & points[item.document] and not named

    of_relation = 0
    for item in given:
        possible = {text for text in points if allowed(item, text)}
        alike = {t for t in possible if relations.get(t, set()) & relations.get(item.document, set())}
        partner = nulls.partners[item.id].text
        assert partner in possible
        assert partner in alike or not alike, "one of the same relation comes first"
        of_relation += partner in alike
    assert nulls.of_relation == of_relation
    assert 0 < of_relation < len(given)


def test_the_choice_depends_on_content_and_not_on_the_order() -> None:
    given = items()
    shuffled = random.Random(1).sample(given, len(given))
    one, other = NullDocuments.of(ItemSet.of(given)), NullDocuments.of(ItemSet.of(shuffled))
    assert {k: d.text for k, d in one.partners.items()} == {k: d.text for k, d in other.partners.items()}
    assert [[d.text for d in half] for half in one.halves] == [[d.text for d in half] for half in other.halves]
    assert one.key == other.key
    assert NullDocuments.of(ItemSet.of(given[:-1])).key != one.key


def test_partners_are_spread_over_the_documents() -> None:
    given = [
        Item(f"i{k}", f"p{k}", "novel", f"Word{k} holds thing{k} .", "Question", f"thing{k}", meta={"relation": "r"})
        for k in range(50)
    ]
    nulls = NullDocuments.of(ItemSet.of(given))
    assert len({partner.text for partner in nulls.partners.values()}) == 50, "every document is one item's partner"


def test_no_knowledge_point_has_documents_in_both_halves(monkeypatch) -> None:
    monkeypatch.setattr(null_documents, "MEAN_DOCUMENTS", 9)
    given = items(60)
    nulls = NullDocuments.of(ItemSet.of(given))
    points = {item.document: {i.point for i in given if i.document == item.document} for item in given}
    held = [set().union(*(points[d.text] for d in half)) for half in nulls.halves]
    assert held[0].isdisjoint(held[1])
    assert [len(half) for half in nulls.halves] == [9, 9]
    for text, half in nulls.mean_half.items():
        assert points[text].isdisjoint(held[half])


def test_a_document_that_joins_two_points_joins_all_their_documents() -> None:
    bridge = [Item("b1", "p0", "novel", "Bridge .", "Q", "x"), Item("b2", "p1", "novel", "Bridge .", "Q", "y")]
    others = [Item(f"i{k}", f"p{k % 2}", "novel", f"Text {k} .", "Q", f"z{k}") for k in range(6)]
    nulls = NullDocuments.of(ItemSet.of([*others, *bridge]))
    assert sorted(len(half) for half in nulls.halves) == [0, 7]
    assert set(nulls.unpartnered) == {"b1", "b2"}, "the bridge shares a point with every document"


def test_items_whose_answers_all_documents_give_have_no_partner() -> None:
    given = [
        Item(f"i{k}", f"p{k}", "conflict", f"Is it so in case {k} ? {word} .", "Is it so ?", word, other)
        for k, (word, other) in enumerate([("yes", "no"), ("no", "yes")] * 4)
    ]
    nulls = NullDocuments.of(ItemSet.of(given))
    assert not nulls.partners
    assert "none of 7 other documents" in nulls.unpartnered["i0"]
    assert nulls.as_json()["without_partner"] == 8
