"""Item files: round trips, converters, and every defect told with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from override_gap.margins.items.files import read_items, write_items
from override_gap.margins.items.item import Item, ItemError, documents_of, items_hash

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
        ({**GOOD, "id": 3}, r"items.jsonl:2: need id as text"),
        ({**GOOD, "splt": "x"}, r"items.jsonl:2: unknown field 'splt'"),
        ({**GOOD, "split": "conflicts"}, r"split 'conflicts' is none of"),
        ({**GOOD, "tier": "shallow"}, r"tier 'shallow' is none of"),
        ({**GOOD, "aliases": "x"}, r"need aliases as a list"),
        ({**GOOD, "chat": "yes"}, r"chat cannot be"),
        (GOOD, r"items.jsonl:2: id 'a' is already used in line 1"),
    ],
)
def test_every_defect_is_told_with_its_line(line: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=message):
        read_items(write(tmp_path, GOOD, line))


def test_files_that_are_no_item_files(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match="no such item file"):
        read_items(tmp_path / "missing")
    with pytest.raises(ItemError, match="no items in it"):
        read_items(write(tmp_path, ""))
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
    (one,), (other,) = read_items(tmp_path / "easy.json"), read_items(tmp_path / "rome.json")
    assert one == other
    assert (one.document, one.answer, one.prior_answer) == ("Apple A5 was created by Google.", "Google", "Apple")


def test_documents_are_distinct_and_the_hash_follows_the_content() -> None:
    items = [Item(**{**GOOD, "id": str(n), "document": d}) for n, d in enumerate("xyx")]
    documents = documents_of(items)
    assert [d.text for d in documents] == ["x", "y"]
    assert documents[0].ids == ("0", "2")
    assert items_hash(items) != items_hash(items[:2])
