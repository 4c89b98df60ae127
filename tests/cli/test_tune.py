"""`override-gap tune`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import override_gap as og
from override_gap.margins.gains_file import read_gains
from override_gap.reports.cli.main import main
from tests.analyses.tune.curves import Curves
from tests.cli.test_compare import stored


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    run = Curves(flip=0.2, lose=1.6, point=0.3).draw(np.random.default_rng(5), points=60)
    return stored(run, tmp_path_factory.mktemp("tune") / "run")


def test_it_prints_what_to_do_and_writes_the_same_to_gains_json(run_folder, capsys) -> None:
    assert main(["tune", str(run_folder)]) == 0
    out = capsys.readouterr().out
    choice, gains = og.tune(run_folder), read_gains(run_folder / "gains.json")
    assert " ".join(choice.says.split()) in " ".join(out.split())
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("gains:"))
    assert (gains.policy, gains.recommendation, gains.says) == (choice.policy, "scale", choice.says)
    assert gains.gains is not None
    assert set(gains.gains) == {float(choice.policy.removeprefix("uniform-"))}
    assert gains.expected["conflict"]["value"] == choice.as_json()["expected"]["conflict"]["value"]
    assert gains.budget == {"keep": 0.95, "kl": None, "measure": "top1"}
    assert str(choice) == str(og.load(run_folder).tune(keep=0.95)), "the method of a run is the same"


def test_the_budget_and_the_candidates_are_those_named(run_folder, tmp_path, capsys) -> None:
    words = [
        "tune",
        str(run_folder),
        "--kl",
        "0.05",
        "--policies",
        "uniform-1.25",
        "--out",
        str(tmp_path / "g.json"),
        "--json",
    ]
    assert main(words) == 0
    tuning = json.loads(capsys.readouterr().out)
    assert tuning["budget"] == {"keep": None, "kl": 0.05, "measure": "top1"}
    assert [row["condition"] for row in tuning["candidates"]] == ["base", "as-delivered", "uniform-1.25"]
    assert read_gains(tmp_path / "g.json").policy == tuning["policy"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--keep", "95"], "did you mean 0.95"),
        (["--keep", "most"], "needs a number"),
        (["--kl", "0"], "above 0"),
        (["--policies", "slb"], "'slb' was not measured in this run"),
        (["--measure", "margin"], "invalid choice"),
        (["--kep", "0.9"], "did you mean --keep"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(run_folder, capsys, words, says) -> None:
    assert main(["tune", str(run_folder), *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1


def test_a_folder_without_a_run_is_refused(tmp_path, capsys) -> None:
    assert main(["tune", str(tmp_path)]) == 2
    assert "no manifest.json" in capsys.readouterr().err
