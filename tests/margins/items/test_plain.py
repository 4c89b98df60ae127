"""Item files as people have them: three columns are enough, and whatever spreadsheet wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pytest

from override_gap.margins.items.files import read_items
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.scan import scan_file

DOCUMENT = 'The mill of Orle, now a "museum";\nits keeper is Tessa Vond, since May.'
QUESTION = "Who keeps the mill of Orle?"
ROW = {"question": QUESTION, "answer": "Tessa Vond", "document": DOCUMENT}
NOVEL = [Item.novel(DOCUMENT, QUESTION, answer="Tessa Vond")]
QUOTED = '"' + DOCUMENT.replace('"', '""') + '"'


def read(tmp_path: Path, name: str, content: str | bytes, **how: bool) -> list[Item]:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_items(tmp_path / name, **how)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv", f"question,answer,document\n{QUESTION},Tessa Vond,{QUOTED}\n"),
        ("windows.csv", f"question,answer,document\r\n{QUESTION},Tessa Vond,{QUOTED}\r\n".replace("\r\nits", "\nits")),
        ("mark.csv", f"\ufeffquestion,answer,document\n{QUESTION},Tessa Vond,{QUOTED}\n"),
        ("semicolons.csv", f"Question;ANSWER; document \n{QUESTION};Tessa Vond;{QUOTED}\n"),
        ("tabs.csv", f"question\tanswer\tdocument\n{QUESTION}\tTessa Vond\t{QUOTED}\n"),
        ("hint.csv", f"sep=;\nquestion;answer;document\n{QUESTION};Tessa Vond;{QUOTED}\n"),
        ("tabs.tsv", f"question\tanswer\tdocument\n{QUESTION}\tTessa Vond\t{QUOTED}\n"),
        ("excel.txt", f"question\tanswer\tdocument\n{QUESTION}\tTessa Vond\t{QUOTED}\n".encode("utf-16")),
        ("trailing.csv", f"question,answer,document,,\n{QUESTION},Tessa Vond,{QUOTED},,\n,,,,\n"),
        ("padded.csv", f"question, answer, document\n{QUESTION} , Tessa Vond,{QUOTED}\n"),
        ("index.csv", f",question,answer,document\n0,{QUESTION},Tessa Vond,{QUOTED}\n"),
        ("lines.jsonl", json.dumps(ROW) + "\n\n"),
        ("pretty.json", json.dumps([ROW], indent=2)),
        ("one.json", json.dumps(ROW, indent=2)),
        ("nested.json", json.dumps({"version": 1, "data": [ROW]})),
        ("nested-pretty.json", json.dumps({"data": [ROW], "version": "x"}, indent=1)),
        ("named.json", json.dumps({"licence": "CC0", "train": [ROW]})),
        ("within.json", json.dumps({"data": {"items": [ROW]}})),
        ("columns.json", json.dumps({name: [text] for name, text in ROW.items()})),
        ("pandas.json", json.dumps({name: {"0": text} for name, text in ROW.items()})),
        ("split.json", json.dumps({"columns": list(ROW), "index": [0], "data": [list(ROW.values())]})),
        ("case.jsonl", json.dumps({name.title(): text for name, text in ROW.items()})),
    ],
)  # fmt: skip
def test_three_columns_are_enough(name: str, content: str | bytes, tmp_path: Path) -> None:
    assert read(tmp_path, name, content) == NOVEL


def test_files_of_arrow_and_folders_saved_by_datasets(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([ROW])
    pyarrow.feather.write_feather(table, str(tmp_path / "t.feather"))
    (tmp_path / "saved" / "train").mkdir(parents=True)
    file = str(tmp_path / "saved" / "train" / "data-00000-of-00001.arrow")
    with pyarrow.OSFile(file, "wb") as opened, pyarrow.ipc.new_stream(opened, table.schema) as stream:
        stream.write_table(table)
    for place in ("t.feather", "saved/train", "saved/train/data-00000-of-00001.arrow"):
        assert read_items(tmp_path / place) == NOVEL
    with pytest.raises(ItemError, match=r"saved is a folder; name one of its splits, as .*train"):
        read_items(tmp_path / "saved")


def test_a_prior_answer_makes_a_conflict_and_a_stated_split_rules(tmp_path: Path) -> None:
    rows = [{**ROW, "prior_answer": "Odo Brand"}, {**ROW, "prior_answer": None}]
    old, new = read(tmp_path, "i.jsonl", "\n".join(map(json.dumps, rows)))
    assert old == Item.conflict(DOCUMENT, QUESTION, answer="Tessa Vond", prior_answer="Odo Brand")
    assert new == NOVEL[0]
    asked = read(tmp_path, "i.jsonl", "\n".join(map(json.dumps, rows)), from_base=True)
    assert [(item.split, item.prior_answer) for item in asked] == [("conflict", "Odo Brand"), ("conflict", None)]
    assert asked[1] == Item.conflict(DOCUMENT, QUESTION, answer="Tessa Vond")
    stated = "\n".join(json.dumps({**row, "split": "retention"}) for row in rows[1:])
    assert [item.split for item in read(tmp_path, "s.jsonl", stated, from_base=True)] == ["retention"]


def test_splits_and_tiers_may_have_capitals(tmp_path: Path) -> None:
    (item,) = read(tmp_path, "t.csv", "Split,Tier,document,question,answer,prior_answer\nConflict,DEEP,d,q,x,y\n")
    assert (item.split, item.tier) == ("conflict", "deep")


def test_answers_are_lists_or_numbers_and_cells_hold_lists(tmp_path: Path) -> None:
    record = {**ROW, "id": 7, "answer": [1994, "nineteen ninety-four"], "prior_answer": 1987, "meta.frequency": 12}
    (item,) = read(tmp_path, "i.jsonl", json.dumps(record))
    assert (item.id, item.answer, item.aliases, item.prior_answer) == ("7", "1994", ("nineteen ninety-four",), "1987")
    assert item.meta == {"frequency": 12}
    table = 'question,document,answer,aliases\nq,d,"[""x"", ""y""]","[\'a\', ""b\'c""]"\n'
    (item,) = read(tmp_path, "t.csv", table)
    assert (item.answer, item.aliases) == ("x", ("y", "a", "b'c"))
    with pytest.raises(ItemError, match=r"need answer as text, got 1994.0"):
        read(tmp_path, "f.jsonl", json.dumps({**ROW, "answer": 1994.0}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "question,answer,document,old_answer\nq,x,d,y\n", "unknown column 'old_answer': is it 'prior_answer'?"),
        ("i.jsonl", json.dumps({**ROW, "prior_anwser": "y"}), "unknown field 'prior_anwser': is it 'prior_answer'?"),
        ("t.csv", "Who?,Ada,Ada wrote it.\nWhat?,It,It is.\n", "the first row names no column of an item"),
        ("t.csv", "question,gold,passage\nq,x,d\n", "is 'passage' the document?"),
        ("t.csv", "question,Question,answer,document\nq,r,x,d\n", "'question' and 'Question' are the same to an item"),
        ("t.csv", "question,answer,document\nq,caf\xe9,d\n".encode("cp1252"), "line 2.*CSV UTF-8.*'q,café,d'"),
        ("t.csv", "question,answer,document\n法国的首都是,巴黎,法国\n".encode("gb18030"), "as GB18030 .*'法国的首都是,巴黎"),
        ("t.csv", "question,answer,document\nフランスは,パリ,仏\n".encode("cp932"), "Shift-JIS .*'フランスは,パリ,仏'"),
        ("t.csv", "question,answer,document\nСтолица,Рим,Рим\n".encode("cp1251"), "Windows-1251 .*'Столица,Рим,Рим'"),
        ("i.json", json.dumps({"train": [ROW], "test": [ROW]}), r"several lists of records \(train, test\)"),
        ("t.csv", "q,answer,document\nq,x,d\n", "no column 'question' .*is 'q' the question"),
        ("t.xlsx", b"PK\x03\x04rest", "is an Excel workbook"),
        ("i.jsonl.gz", b"\x1f\x8brest", "is compressed"),
        ("i.json", '[{"question": "q",}]', "remove the comma before the closing bracket"),
        ("i.jsonl", "{'question': 'q'}", "JSON quotes with"),
        ("i.jsonl", '{"question": NaN}', "write null for a value that is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_said_in_one_line(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ItemError, match=message) as fault:
        read(tmp_path, name, content)
    assert "\n" not in str(fault.value)


def test_a_row_that_repeats_another_is_read_once_and_further_columns_are_counted(tmp_path: Path) -> None:
    rows = [{**ROW, "source": "a web page", "note": None}, ROW, {**ROW, "source": "another"}]
    (tmp_path / "i.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scan = scan_file(tmp_path / "i.jsonl")
    assert [item for _, item in scan.items] == NOVEL
    assert (dict(scan.unused), dict(scan.left_out)) == ({"source": 2}, {"an item that the file has already": 2})
    assert scan.without_split == {"novel": 1}
