"""Samples for other viewers: the readings' own texts and numbers, nothing invented; opened by the real packages if present."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from override_gap.analyses.outcomes import outcomes
from override_gap.analyses.readings import RunFrame
from override_gap.reports.cli.main import main
from override_gap.reports.export.inspect_log import inspect_log
from override_gap.reports.export.lm_eval_log import lm_eval_logs
from override_gap.reports.export.samples import SUCCESS, samples_of
from tests.cli.test_compare import stored
from tests.reports.hostile import HOSTILE
from tests.simulate import simulate_readings


@pytest.fixture(scope="module")
def run() -> RunFrame:
    """A run with texts, some answers in words, an item that could not be measured, and meta."""
    found = simulate_readings(2, points=20, questions=40, others=10, conditions=("base", "as-delivered", "slb"))
    rows = found.readings.astype(dict.fromkeys(list(SUCCESS.values())[:2], object))
    rows["question"] = [f"question of {item}" for item in rows["item"]]
    rows["answer"] = "Lyon"
    rows["aliases"] = [["the city of Lyon"]] * len(rows)
    rows["answer_text"] = [f"said of {item}" if n % 3 == 0 else None for n, item in enumerate(rows["item"])]
    rows["top_token"] = " Ly"
    rows["meta"] = [json.dumps({"source": "made", "n": 3}) if c == "base" else None for c in rows["condition"]]
    broken = rows.index[(rows["condition"] == "as-delivered")][0]
    rows.loc[broken, ["status", "error", "answer_text"]] = ["error", "no room", None]
    rows.loc[broken, list(SUCCESS.values())[:2]] = None
    return replace(found, readings=rows)


def test_a_sample_holds_what_was_read_and_no_answer_that_was_not_generated(run) -> None:
    rows = run.readings[run.readings["condition"] == "as-delivered"].set_index("item")
    samples = samples_of(run, "as-delivered")
    assert [sample.id for sample in samples] == sorted(rows.index)
    assert {sample.answer is None for sample in samples} == {True, False}
    for sample in samples:
        row = rows.loc[sample.id]
        assert (sample.question, sample.targets) == (row["question"], ("Lyon", "the city of Lyon"))
        assert sample.answer == (row["answer_text"] if isinstance(row["answer_text"], str) else None)
        assert sample.meta == {"source": "made", "n": 3}
        if row["status"] == "ok":
            assert sample.scores["top1"] == int(row["success_top1"])
            assert sample.metadata["net_margin"] == row["net_margin"]
        else:
            assert (sample.error, sample.scores) == ("no room", {})


def test_shares_are_those_of_the_report_split_by_split(run) -> None:
    table = outcomes(run).frame()
    _, log = inspect_log(run, "slb")
    harness = json.loads(next(text for name, text in lm_eval_logs(run, "slb").items() if name.startswith("results_")))
    compared = 0
    for score in log["results"]["scores"]:
        for split, metric in score["metrics"].items():
            own = table[
                (table["split"] == split) & (table["measure"] == score["name"]) & (table["condition"] == "slb")
                & (table["population"] == "all") & table["tier"].isna()
            ]  # fmt: skip
            if len(own) == 1:
                assert metric["value"] == pytest.approx(next(iter(own["value"])))
                assert harness["results"][f"override_gap_{split}"][f"{score['name']},none"] == metric["value"]
                compared += 1
    assert compared >= 3


def test_an_answer_that_was_not_generated_is_null_in_both_logs(run) -> None:
    _, log = inspect_log(run, "as-delivered")
    by_id = {sample["id"]: sample for sample in log["samples"]}
    seen = set()
    for name, content in lm_eval_logs(run, "as-delivered").items():
        for row in map(json.loads, content.splitlines() if name.startswith("samples_") else ()):
            sample = by_id[row["doc"]["id"]]
            said = [choice["message"]["content"] for choice in sample["output"]["choices"]]
            assert row["filtered_resps"] == (said or [None])
            assert len(sample["messages"]) == 1 + len(said)
            assert {key: float(value["value"]) for key, value in sample["scores"].items()} == {
                measure: row[measure] for measure in row["metrics"]
            }
            seen.add(sample["id"])
    assert seen == set(by_id)


def test_hostile_texts_stay_texts_in_json_that_any_reader_takes(run) -> None:
    texts = [text for text in HOSTILE if text != "\ud800"]
    rows = run.readings.copy()
    rows["question"] = [texts[n % len(texts)] for n in range(len(rows))]
    rows["net_margin"] = float("inf")
    rows["kl"] = float("nan")
    spoilt = replace(run, readings=rows, manifest={**run.manifest, "subject": {"name": "\ud800\x1b[2J"}})
    _, log = inspect_log(spoilt, "as-delivered")
    dumped = json.dumps(log, allow_nan=False, ensure_ascii=False)
    assert not re.search(r"\\u001b|\\ud800|[\u202e\ud800]", dumped)
    dumped.encode()
    for content in lm_eval_logs(spoilt, "as-delivered").values():
        assert "NaN" not in content
        assert "Infinity" not in content


def test_the_command_writes_a_log_per_condition_and_refuses_what_is_not_there(run, tmp_path, capsys) -> None:
    folder = stored(run, tmp_path / "run")
    words = [
        "report",
        str(folder),
        "--format",
        "inspect",
        "--condition",
        "as-delivered,slb",
        "--out",
        str(tmp_path / "logs"),
    ]
    assert main(words) == 0
    assert len(list((tmp_path / "logs").glob("*.json"))) == 2
    assert main(["report", str(folder), "--format", "lm-eval"]) == 0
    assert list((folder / "lm-eval" / "as-delivered").glob("samples_override_gap_conflict_*.jsonl"))
    assert main(["doctor", str(folder)]) in (
        0,
        2,
    )  # whatever it says of the made-up run, it does not fall over the logs
    capsys.readouterr()
    for wrong, said in (
        (["--format", "inspect", "--condition", "nosuch"], "no condition 'nosuch' in this run; it has as-delivered"),
        (["--format", "inspect", "--condition", " , "], "--condition needs at least one name"),
        (["--condition", "slb"], "--condition is for --format inspect and lm-eval"),
    ):
        assert main(["report", str(folder), *wrong]) == 2
        error = capsys.readouterr().err
        assert said.split(";")[0] in error
        assert error.count("\n") == 1


def test_inspect_reads_lists_and_dumps_the_log(run, tmp_path) -> None:
    """Where inspect_ai is installed; docs/reading-the-report.md says how."""
    log_module = pytest.importorskip("inspect_ai.log")
    name, log = inspect_log(run, "as-delivered")
    (tmp_path / name).write_text(json.dumps(log))
    read = log_module.read_eval_log(str(tmp_path / name))
    assert (read.status, len(read.samples)) == ("success", len(log["samples"]))
    for sample, ours in zip(read.samples, log["samples"], strict=True):
        assert (sample.id, sample.input, sample.target) == (ours["id"], ours["input"], ours["target"])
        assert bool(sample.output.choices) == bool(ours["output"]["choices"])
        assert {key: score.value for key, score in sample.scores.items()} == {
            key: score["value"] for key, score in ours["scores"].items()
        }
        assert (sample.error is None) == ("error" not in ours)
    assert [info.name.rsplit("/", 1)[1] for info in log_module.list_eval_logs(str(tmp_path))] == [name]
    program = shutil.which("inspect", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program:
        dumped = subprocess.run(
            [program, "log", "dump", str(tmp_path / name)], capture_output=True, text=True, check=True
        )
        assert json.loads(dumped.stdout)["eval"]["task"] == "override-gap as-delivered"


def test_the_harness_finds_the_files_and_knows_every_field(run, tmp_path) -> None:
    """Where lm_eval is installed."""
    utils = pytest.importorskip("lm_eval.utils")
    schema = pytest.importorskip("lm_eval.result_schema")
    for name, content in lm_eval_logs(run, "as-delivered").items():
        (tmp_path / name).write_text(content)
    names = [str(path) for path in tmp_path.iterdir()]
    samples = utils.get_sample_results_filenames(names)
    assert len(samples) == len(names) - 1
    [results] = utils.get_results_filenames(names)
    found = json.loads(Path(results).read_text())
    assert set(found) <= set(schema.EvalResults.__annotations__)
    assert "override_gap_conflict" in utils.make_table(found)
    for file in samples:
        for row in map(json.loads, Path(file).read_text().splitlines()):
            assert set(schema.SampleResult.__annotations__) <= set(row)
            assert set(row) - set(schema.SampleResult.__annotations__) == set(row["metrics"])
