"""Records from every kind of file: the same content gives the same items, and every error has its line."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest

from override_gap.margins.items.files import read_items, scan_items, write_items
from override_gap.margins.items.item import Item, ItemError

ITEMS = [
    Item("a", "p", "conflict", "Two lines,\nand a comma.", "The sea is", "red", "blue", "deep", ("crimson", "ruby"), ("azure",)),
    Item("b", "q", "novel", 'It says "so".', "It says", "so", meta={"kind": ["x", {"y": 1}]}),
    Item("c", "q", "retention", "d", "Is it?", "[1]", chat=True),
]  # fmt: skip


def as_csv(path: Path, separator: str, lists: str) -> None:
    cells = [
        {
            name: ("" if value in (None, []) else lists.join(value) if lists else json.dumps(value))
            if name in ("aliases", "prior_aliases")
            else json.dumps(value)
            if name == "meta"
            else "" if value is None else value
            for name, value in item.as_json().items()
        }
        for item in ITEMS
    ]  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as opened:
        table = csv.DictWriter(opened, cells[0], delimiter=separator)
        table.writeheader()
        table.writerows(cells)


def test_all_files_of_one_content_give_the_same_items(tmp_path: Path) -> None:
    write_items(ITEMS, tmp_path / "lines.jsonl")
    (tmp_path / "array.json").write_text(json.dumps([item.as_json() for item in ITEMS], indent=1))
    as_csv(tmp_path / "json-lists.csv", ",", "")
    as_csv(tmp_path / "bars.tsv", "\t", " | ")
    for file in sorted(tmp_path.iterdir()):
        assert read_items(file) == ITEMS, file.name


def test_parquet_gives_the_same_items(tmp_path: Path) -> None:
    records = [item.as_json() for item in ITEMS]
    for record in records:
        record["meta"] = {"kind": "x"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "rows.parquet")
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert read_items(tmp_path / "rows.parquet") == read_items(tmp_path / "lines.jsonl")


def test_a_damaged_parquet_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ItemError, match=r"rows.parquet: not a Parquet file"):
        read_items(tmp_path / "rows.parquet")


def test_a_table_may_have_the_columns_of_a_known_data_set(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("case_id,prompt,subject,ground_truth,target_new\n7,The sea is,sea,blue,red\n")
    (item,) = read_items(tmp_path / "t.csv")
    assert (item.id, item.document, item.prior_answer) == ("counterfact-7", "The sea is red.", "blue")


def test_every_error_has_its_line(tmp_path: Path) -> None:
    good = ITEMS[1].as_json()
    lines = [
        json.dumps(good),
        "{broken",
        "",
        json.dumps({**good, "id": "c", "split": "nowhere", "tier": "shallow", "chat": "no"}),
        json.dumps(good),
        "[1]",
        json.dumps({**good, "id": "d"}),
    ]
    (tmp_path / "i.jsonl").write_text("\n".join(lines))
    scanned, errors = scan_items(tmp_path / "i.jsonl")
    assert [(line, item.id) for line, item in scanned] == [(1, "b"), (7, "d")]
    assert [line for line, _ in errors] == [2, 4, 4, 4, 5, 6]
    assert "already used in line 1" in errors[4][1]


def test_errors_in_an_array_have_the_line_where_the_member_begins(tmp_path: Path) -> None:
    good = json.dumps(ITEMS[0].as_json(), indent=1)
    (tmp_path / "a.json").write_text(f"[\n{good},\n3,\n{good}\n]\n")
    scanned, errors = scan_items(tmp_path / "a.json")
    length = good.count("\n") + 1
    assert [line for line, _ in scanned] == [2]
    assert [line for line, _ in errors] == [2 + length, 3 + length]


@pytest.mark.parametrize("text", ['[{"a": 1}', "[1 2]", "[1,]", "[]]", "[,]", "[1"])
def test_a_broken_array_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ItemError, match=r"a.json:1: "):
        read_items(tmp_path / "a.json")
    assert any("not JSON" in message for _, message in scan_items(tmp_path / "a.json")[1])


def test_errors_in_a_csv_have_the_line_where_the_row_begins(tmp_path: Path) -> None:
    head = "id,point,split,document,question,answer,meta\n"
    rows = ['a,p,novel,"two\nlines",q,x,', "", "b,p,novel,d,q,x,{no", "c,p,novel,d,q,x,{},more", "d,p,,d,q,x"]
    (tmp_path / "t.csv").write_text(head + "\n".join(rows) + "\n")
    scanned, errors = scan_items(tmp_path / "t.csv")
    assert [(line, item.document) for line, item in scanned] == [(2, "two\nlines")]
    assert [line for line, _ in errors] == [5, 6, 7]
    assert [message.split()[0] for _, message in errors] == ["meta", "8", "the"]


def test_a_missing_column_is_said_once_beside_those_found(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("question,Answer,passage\n" + "Where is it?,here,It is here.\n" * 3)
    items, errors = scan_items(tmp_path / "t.csv")
    said = "no column 'document' (found: question, Answer, passage); is 'passage' the document? then rename it to 'document'"
    assert (items, errors) == ([], [(1, said)])
    lines = [json.dumps({"document": "d", "question": "q", name: "x"}) for name in ("answer", "answer", "reply")]
    (tmp_path / "i.jsonl").write_text("\n".join(lines))
    items, errors = scan_items(tmp_path / "i.jsonl")
    assert errors[0] == (3, "the field 'answer' is missing or empty")


def test_what_some_records_state_the_others_must_state_too(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("split,document,question,answer\nnovel,d,q,x\n,e,q,x\n")
    with pytest.raises(ItemError, match=r"t.csv:3: the column 'split' is missing or empty, and other records have it"):
        read_items(tmp_path / "t.csv")


def test_a_csv_with_an_open_quote_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,point\n"a,b\n')
    with pytest.raises(ItemError, match=r"t.csv:2: not CSV"):
        read_items(tmp_path / "t.csv")


def test_the_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ItemError, match=r"hf:owner/name: needs the package datasets"):
        read_items("hf:owner/name")


def test_the_hub_gives_rows_of_one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**item.as_json(), "chat": item.chat or None} for item in ITEMS]

    def load(name: str, split: str | None = None) -> object:
        if name != "owner/name":
            raise FileNotFoundError("no such data set\nand a long story")
        return rows if split == "test" else {"train": rows[:1], "test": rows}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    assert read_items("hf:owner/name:test") == ITEMS
    with pytest.raises(ItemError, match=r"has the splits train, test; name one, as in hf:owner/name:train"):
        read_items("hf:owner/name")
    with pytest.raises(ItemError, match=r"hf:other/name: cannot be loaded: no such data set$"):
        read_items("hf:other/name")
