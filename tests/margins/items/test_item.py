"""Items: made from texts, written and read again; every error of a file with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from override_gap.margins.items.files import read_items, write_items
from override_gap.margins.items.item import Asked, Item, ItemError, documents_of, items_hash, questions_hash
from override_gap.margins.items.item_set import ItemSet
from override_gap.margins.items.null_documents import NullDocuments

GOOD = {
    "id": "a",
    "point": "p",
    "split": "conflict",
    "document": "d",
    "question": "q",
    "answer": "x",
    "prior_answer": "y",
}


def write(tmp_path: Path, *lines: object) -> Path:
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def test_round_trip(tmp_path: Path) -> None:
    items = [
        Item(**GOOD, tier="deep", aliases=("é",), meta={"frequency": 3}),
        Item(**{**GOOD, "id": "b", "prior_answer": None}),
    ]
    write_items(items, tmp_path / "i.jsonl")
    assert read_items(tmp_path / "i.jsonl") == items


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", r"items.jsonl:2: not JSON"),
        ("[1]", r"items.jsonl:2: need a JSON object"),
        ({**GOOD, "id": [3]}, r"items.jsonl:2: need id as text"),
        ({**GOOD, "id": 3.0}, r"items.jsonl:2: need id as text"),
        ({**GOOD, "splt": "x"}, r"items.jsonl:2: unknown field 'splt'"),
        ({**GOOD, "split": "conflicts"}, r"split 'conflicts' is none of"),
        ({**GOOD, "tier": "shallow"}, r"tier 'shallow' is none of"),
        ({**GOOD, "aliases": "x"}, r"need aliases as a list"),
        ({**GOOD, "chat": "yes"}, r"chat cannot be"),
        (GOOD, r"items.jsonl:2: id 'a' is already used in line 1"),
    ],
)
def test_every_error_has_its_line(line: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=message):
        read_items(write(tmp_path, GOOD, line))


def test_files_that_hold_no_items_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match="no such item file"):
        read_items(tmp_path / "missing")
    with pytest.raises(ItemError, match="no items in it"):
        read_items(write(tmp_path, ""))
    left_out = '{"prompt": "A", "target_new": [], "subject": "A", "ground_truth": "c"}'
    (tmp_path / "edits.jsonl").write_text(left_out)
    with pytest.raises(ItemError, match="no items in it; left out: 1 x an edit without a new answer"):
        read_items(tmp_path / "edits.jsonl")
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    with pytest.raises(ItemError, match="not UTF-8"):
        read_items(tmp_path / "latin")
    (tmp_path / "deep").write_text("[" * 100_000)
    with pytest.raises(ItemError, match=r"nested too deeply|not JSON"):
        read_items(tmp_path / "deep")


def test_counterfact_in_both_forms_gives_the_same_conflict(tmp_path: Path) -> None:
    easy = {
        "case_id": 7,
        "prompt": "Apple A5 was created by",
        "target_new": "Google",
        "subject": "Apple A5",
        "ground_truth": "Apple",
        "rephrase_prompt": "-",
    }
    rewrite = {
        "prompt": "{} was created by",
        "subject": "Apple A5",
        "target_new": {"str": "Google"},
        "target_true": {"str": "Apple"},
    }
    (tmp_path / "easy.json").write_text(json.dumps([easy]))
    (tmp_path / "rome.json").write_text(json.dumps([{"case_id": 7, "requested_rewrite": rewrite}]))
    (item,), (same,) = read_items(tmp_path / "easy.json"), read_items(tmp_path / "rome.json")
    assert item == same
    assert (item.document, item.answer, item.prior_answer) == ("Apple A5 was created by Google.", "Google", "Apple")


def test_documents_are_distinct_and_the_hash_follows_the_content() -> None:
    items = [Item(**{**GOOD, "id": str(n), "document": d}) for n, d in enumerate("xyx")]
    documents = documents_of(items)
    assert [d.text for d in documents] == ["x", "y"]
    assert documents[0].ids == ("0", "2")
    assert items_hash(items) != items_hash(items[:2])


DOCUMENT, QUESTION = "The seat of government of France moved to Lyon.", "The capital of France is"


def test_a_conflict_is_made_from_its_texts() -> None:
    item = Item.conflict(DOCUMENT, QUESTION, answer="Lyon", prior_answer="Paris", aliases=["Lugdunum"], tier="deep")
    assert (item.split, item.document, item.question) == ("conflict", DOCUMENT, QUESTION)
    assert (item.answer, item.prior_answer, item.aliases, item.tier) == ("Lyon", "Paris", ("Lugdunum",), "deep")
    assert (item.id, item.point) == (
        "conflict-c3a356902c38",
        "document-df45dae5cbc7",
    )  # sha256sum of JSON lists of the texts
    assert item.defects() == []


def test_novel_and_retention_items_have_no_prior_answer() -> None:
    novel, kept = (make(DOCUMENT, QUESTION, answer="Lyon") for make in (Item.novel, Item.retention))
    assert [(item.split, item.prior_answer) for item in (novel, kept)] == [("novel", None), ("retention", None)]
    assert novel.point == kept.point
    assert novel.id != kept.id


def test_ids_differ_with_the_texts_and_points_with_the_document() -> None:
    items = [
        Item.conflict(document, question, answer=answer, prior_answer=prior)
        for document in (DOCUMENT, "France is governed from Lyon.")
        for question in (QUESTION, "France's capital is")
        for answer, prior in (("Lyon", "Paris"), ("Lyon", "Nice"), ("Nice", "Paris"))
    ]
    assert len({item.id for item in items}) == 12
    assert len({item.point for item in items}) == 2


def test_id_and_point_may_be_chosen() -> None:
    item = Item.novel(DOCUMENT, QUESTION, answer="Lyon", id="lyon", point="seat", meta={"subject": "France"}, chat=True)
    assert (item.id, item.point, item.meta, item.chat) == ("lyon", "seat", {"subject": "France"}, True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answer": " "}, "empty answer"),
        ({"prior_answer": ""}, "a conflict needs prior_answer"),
        ({"prior_answer": "Lyon"}, "answer and prior_answer are the same"),
        ({"aliases": "Lugdunum"}, "need aliases as a list of texts"),
        ({"tier": "shallow"}, "tier 'shallow' is none of"),
        ({"alias": ["Lugdunum"]}, "unknown field 'alias'"),
        ({"id": None}, "the field 'id' is missing or empty"),
    ],
)
def test_texts_that_make_no_item_are_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ItemError, match=message):
        Item.conflict(DOCUMENT, QUESTION, **{"answer": "Lyon", "prior_answer": "Paris", **fields})


GATE = "The gate of Orm moved to Vell."
ASKING = [
    Item("a", "p", "conflict", GATE, "The gate of Orm is in", "Vell", "Kest", meta={"subject": "Orm"}),
    Item("b", "p", "combination", GATE, "The keeper of the gate of Orm lives in", "Vell"),
    Item("c", "p", "retention", GATE, "The gate of Tam is in", "Lur"),
    Item("d", "q", "novel", "Ira keeps goats.", "Ira keeps", "goats"),
]


def test_a_document_carries_what_is_asked_of_it_and_no_answer_of_a_retention_question_as_its_own() -> None:
    gate, goats = documents_of(ASKING)
    assert gate.questions == (
        Asked("The gate of Orm is in", "Vell", "Kest", "Orm", "conflict"),
        Asked("The keeper of the gate of Orm lives in", "Vell", None, None, "combination"),
        Asked("The gate of Tam is in", None, "Lur", None, "retention"),
    )
    assert gate.ids == ("a", "b", "c")
    assert gate.subjects == ("Orm",)
    assert [(asked.prompt, asked.target) for asked in goats.questions] == [("Ira keeps", "goats")]
    assert all(asked.chat for document in ItemSet.of(ASKING).in_chat().documents for asked in document.questions)


def test_questions_change_no_stored_hash_but_their_own() -> None:
    """The values are those that this code gave before documents carried questions (commit 5933b10)."""
    items = ItemSet.of(ASKING)
    assert items.sha256 == "8108070e3e563264dadf925453772ff489bbd3cdd4605a2880c1bbbcf8540556"
    assert [document.key for document in items.documents] == ["54abf96ed3f1aa37", "bb0bb1dcfbf71927"]
    assert NullDocuments.of(items).key == "92d3cd01a5dbaf46"
    asked = [documents_of(ASKING), documents_of(ASKING[:3]), documents_of([*ASKING[1::-1], *ASKING[2:]])]
    assert len({questions_hash(documents) for documents in asked}) == 3
    assert questions_hash(asked[0]) == questions_hash(items.documents)


def test_the_first_items_come_with_all_that_is_asked_of_their_documents() -> None:
    mixed = [ASKING[0], ASKING[3], ASKING[1]]
    assert [item.id for item in ItemSet.of(mixed).first(1)] == ["a", "b"]
