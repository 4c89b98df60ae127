"""The benchmark page is written from the stored results, and the sides of a comparison run in turn."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest

from benchmarks.bench import page, record, rows
from benchmarks.bench.clock import Timed, in_turn
from benchmarks.bench.record import Line, single

ROOT = Path(__file__).parent.parent.parent
NAMES = sorted(module.name for module in pkgutil.iter_modules(rows.__path__))


def test_the_page_is_written_from_the_results() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.text()
    assert "(performance.md)" in (ROOT / "docs" / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_row_says_what_limits_it(name: str) -> None:
    row = importlib.import_module(f"benchmarks.bench.rows.{name}")
    assert row.TITLE
    assert len(row.LIMITS) > 80


@pytest.mark.parametrize(
    "file",
    sorted(file for file in record.RESULTS.glob("*.json") if file.name != "gpu.json"),
    ids=lambda file: file.stem,
)
def test_stored_results_record_whether_goals_are_met(file: Path) -> None:
    result = json.loads(file.read_text())
    row = importlib.import_module(f"benchmarks.bench.rows.{result['row']}")
    assert result["subject"] in row.SUBJECTS
    assert file == record.result_file(result["row"], result["subject"])
    for line in result["lines"]:
        assert line["value"]["low"] <= line["value"]["median"] <= line["value"]["high"]
        if line["goal"]:
            kind, bound = line["goal"]
            median = line["value"]["median"]
            assert line["met"] == (median <= bound if kind == "at most" else median >= bound)
    # no path of a machine
    assert not re.search(r"/(home|work|tmp|root|Users)/", json.dumps(result))


def test_sides_take_turns_and_each_repeat_starts_with_another() -> None:
    calls: list[str] = []
    timed = in_turn({name: lambda name=name: calls.append(name) for name in "abc"}, 3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert all(len(seconds) == 3 for seconds in timed.seconds.values())


def test_a_ratio_is_of_repeats_and_not_of_medians() -> None:
    timed = Timed({"ours": [1.0, 8.0, 3.0], "theirs": [2.0, 4.0, 1.0]}, "CPU")
    assert timed.ratio("ours", "theirs") == {"median": 2.0, "low": 0.5, "high": 3.0, "n": 3}


def test_a_missed_goal_is_shown_on_the_page(tmp_path: Path) -> None:
    lines = [
        Line("slow", "fast", single(3.0), goal=("at most", 1.05)),
        Line("quick", "fast", single(9), goal=("at least", 7)),
    ]
    record.write("probes", "organism", lines, {}, tmp_path)
    text = page.text(tmp_path)
    assert "| slow | fast | 3 | at most 1.05 | **missed** |" in text
    assert "| quick | fast | 9 | at least 7 | met |" in text
