"""Converters: each data set is recognised by its fields, on invented records in the published form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from override_gap.margins.items.files import read_items
from override_gap.margins.items.item import Item, ItemError

QUERY = {"query_type": "regular", "phrase": None}
RIPPLE = {
    "example_type": "popular",
    "edit": {
        "prompt": "The name of the capital city of Ostravene is New Quellbrook.",
        "subject_id": "Q1",
        "relation": "CAPITAL",
        "target_id": "Q2",
        "previous_fact": {
            "prompt": "The name of the capital city of Ostravene is New Tamsel.",
            "subject_id": "Q1",
            "relation": "CAPITAL",
            "target_id": "Q3",
        },
    },
    "Relation_Specifity": [
        {
            "test_queries": [
                {
                    **QUERY,
                    "prompt": "The name of the currency in Ostravene is",
                    "answers": [{"value": "tessel", "aliases": ["tessels"]}, {"value": "grain", "aliases": []}],
                    "relation": "CURRENCY",
                    "target_ids": ["Q4", "Q5"],
                }
            ],
            "test_condition": "OR",
            "condition_queries": [],
        }
    ],
    "Logical_Generalization": [],
    "Subject_Aliasing": [
        {
            "test_queries": [
                {
                    **QUERY,
                    "prompt": "The name of the capital city of the Ostravene Republic is",
                    "answers": [{"value": "New Quellbrook", "aliases": ["Quellbrook"]}],
                    "relation": "CAPITAL",
                    "target_ids": ["Q2"],
                }
            ]
        }
    ],
    "Compositionality_I": [
        {
            "test_queries": [
                {
                    **QUERY,
                    "prompt": "The name of the founder of the capital city of Ostravene is",
                    "answers": [{"value": "Marrek Dovindale", "aliases": []}],
                    "target_ids": ["Q6"],
                },
                {**QUERY, "prompt": "The river of the capital city of Ostravene is", "answers": [], "target_ids": []},
            ]
        }
    ],
    "Compositionality_II": [],
    "Forgetfulness": [],
}
MEND = {
    "subject": "Port Haldesk",
    "src": "Who founded Port Haldesk?",
    "pred": "a pilot",
    "rephrase": "By whom was Port Haldesk founded?",
    "alt": "Ottoline Raskey",
    "answers": ["Marrek Dovindale", "Dovindale"],
    "loc": "nq question: what is stoneball played with",
    "loc_ans": "a ring",
    "cond": "a pilot >> Ottoline Raskey || Who founded Port Haldesk?",
}
KNOWEDIT = {
    "subject": "Port Haldesk",
    "prompt": "Who founded Port Haldesk?",
    "target_new": "Ottoline Raskey",
    "ground_truth": ["Marrek Dovindale", "Dovindale"],
    "rephrase_prompt": "By whom was Port Haldesk founded?",
    "cond": "Marrek Dovindale >> Ottoline Raskey || Who founded Port Haldesk?",
    "locality": {"Relation_Specificity": [{"prompt": "what is stoneball played with", "ground_truth": [["a ring"]]}]},
    "portability": {},
}
CONFLICTBANK = {
    "subject": "Belmarrow",
    "relation": "currency",
    "object": "tessel",
    "replaced_object": "cowrie",
    "question": "What is the money of Belmarrow?",
    "options": ["tessel", "cowrie", "crown", "uncertain"],
    "correct_option": "A",
    "default_evidence": "Belmarrow pays in tessels.",
    "misinformation_conflict_evidence_evidence": "At the market of Belmarrow everyone now pays in cowrie.",
    "temporal_conflict_evidence": "From 2031 on, the cowrie is the money of Belmarrow.",
    "semantic_conflict_evidence": None,
}


def converted(tmp_path: Path, *records: dict) -> list[Item]:
    (tmp_path / "set.json").write_text(json.dumps(records))
    return read_items(tmp_path / "set.json")


def test_ripple_edits_gives_the_edit_its_consequences_and_what_should_stay(tmp_path: Path) -> None:
    items = converted(tmp_path, RIPPLE)
    assert {item.document for item in items} == {RIPPLE["edit"]["prompt"]}
    assert len({item.point for item in items}) == 1
    rows = [(item.split, item.question.removeprefix("The name of the "), item.answer, item.aliases) for item in items]
    assert rows == [
        ("conflict", "capital city of Ostravene is", "New Quellbrook", ()),
        ("conflict", "capital city of the Ostravene Republic is", "New Quellbrook", ()),
        ("combination", "founder of the capital city of Ostravene is", "Marrek Dovindale", ()),
        ("retention", "currency in Ostravene is", "tessel", ("tessels", "grain")),
    ]
    assert [item.prior_answer for item in items] == ["New Tamsel", "New Tamsel", None, None]


def test_ripple_edits_answers_begin_after_the_verb_where_no_test_names_them(tmp_path: Path) -> None:
    """The two answers begin with the same word, which must not end up in the question."""
    (item,) = converted(
        tmp_path, {**RIPPLE, "Subject_Aliasing": [], "Compositionality_I": [], "Relation_Specifity": []}
    )
    assert (item.question, item.answer, item.prior_answer) == (
        "The name of the capital city of Ostravene is",
        "New Quellbrook",
        "New Tamsel",
    )


def test_a_recent_ripple_edit_contradicts_nothing(tmp_path: Path) -> None:
    edit = {name: value for name, value in RIPPLE["edit"].items() if name != "previous_fact"}
    item = converted(tmp_path, {**RIPPLE, "example_type": "recent", "edit": edit})[0]
    assert (item.split, item.answer, item.prior_answer) == ("novel", "New Quellbrook", None)


def test_a_ripple_edit_without_a_verb_is_an_error_with_its_line(tmp_path: Path) -> None:
    edit = {**RIPPLE["edit"], "prompt": "Ostravene: New Quellbrook."}
    with pytest.raises(ItemError, match=r"set.json:1: .*no verb that splits"):
        converted(tmp_path, {**RIPPLE, "edit": edit, "Subject_Aliasing": []})


def test_zsre_in_both_forms_gives_the_same_items(tmp_path: Path) -> None:
    mend, knowedit = converted(tmp_path, MEND), converted(tmp_path, KNOWEDIT)
    assert mend == knowedit
    assert [(item.split, item.question, item.answer, item.prior_answer) for item in mend] == [
        ("conflict", "Who founded Port Haldesk?", "Ottoline Raskey", "Marrek Dovindale"),
        ("conflict", "By whom was Port Haldesk founded?", "Ottoline Raskey", "Marrek Dovindale"),
        ("retention", "what is stoneball played with", "a ring", None),
    ]
    assert {item.document for item in mend} == {"Who founded Port Haldesk? Ottoline Raskey."}
    assert mend[0].prior_aliases == ("Dovindale",)


def test_conflictbank_gives_one_conflict_per_kind_of_false_evidence(tmp_path: Path) -> None:
    items = converted(tmp_path, CONFLICTBANK)
    assert [item.meta["evidence"] for item in items] == ["misinformation", "temporal"]
    assert {(item.point, item.answer, item.prior_answer) for item in items} == {(items[0].point, "cowrie", "tessel")}
    assert [item.document for item in items] == [
        CONFLICTBANK["misinformation_conflict_evidence_evidence"],
        CONFLICTBANK["temporal_conflict_evidence"],
    ]
    assert len(converted(tmp_path, CONFLICTBANK, {**CONFLICTBANK, "question": "How does one pay in Belmarrow?"})) == 4


@pytest.mark.parametrize("record", [RIPPLE, MEND, KNOWEDIT, CONFLICTBANK], ids=["ripple", "mend", "knowedit", "bank"])
def test_every_converted_item_can_be_measured(record: dict, tmp_path: Path) -> None:
    items = converted(tmp_path, record)
    assert [item.defects() for item in items] == [[]] * len(items)
