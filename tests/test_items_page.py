"""docs/items.md: its three columns go from file to report in one try, and its tables name what is read."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from override_gap.margins.items.datasets import FORMS
from override_gap.margins.items.item import Item
from override_gap.probes.items import open_items
from override_gap.reports.cli.main import main

PAGE = (Path(__file__).parent.parent / "docs" / "items.md").read_text(encoding="utf-8")


def test_three_columns_go_from_file_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    [table] = re.findall(r"```csv\n(.*?)```", PAGE, re.S)
    [commands] = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    (tmp_path / "mine.csv").write_text(table)
    for line in commands.strip().split("\n"):
        assert main(shlex.split(line)[1:]) == 0, line
    page = (tmp_path / "runs" / "mine" / "report.html").read_text()
    assert "4 conflicts named none and have the base" in page
    assert "4 of these count as known, and do so by construction" in page
    assert "4 conflicts named none" in " ".join(capsys.readouterr().out.split())
    # the organism's own examination names the same old answers, which it was trained on
    truth = {(i.document, i.question): i.prior_answer for i in open_items("organism") if i.split == "conflict"}
    asked = json.loads((tmp_path / "runs" / "mine" / "items.json").read_text())["items"]
    assert [row["prior_answer"] for row in asked] == [truth[row["document"], row["question"]] for row in asked]
    assert len(asked) == 4


def test_without_a_conflict_the_command_says_how_to_have_one(tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.csv").write_text(re.findall(r"```csv\n(.*?)```", PAGE, re.S)[0])
    words = ["audit", "--items", str(tmp_path / "mine.csv"), "--policies", "as-delivered", "--probes", "margins"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "with --prior from-base the model itself is asked for it" in capsys.readouterr().err


def test_the_tables_name_every_field_and_every_data_set() -> None:
    named = {name for cell in re.findall(r"^\| (`[^|]+`) \|", PAGE, re.M) for name in re.findall(r"`(\w+)`", cell)}
    assert {field.name for field in fields(Item)} <= named
    sets = PAGE.partition("## Data sets")[2]
    assert [form.name for form in FORMS if form.name.partition(",")[0].partition("'")[0] not in sets] == []
