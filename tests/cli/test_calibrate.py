"""Calibration from the command line: plants are audited and named, and complete runs are kept."""

from __future__ import annotations

import pandas as pd
import pytest

from override_gap.reports.cli.main import main

NAMES = ["as-trained", "growing", "times-4", "wrong-direction", "half"]


def test_plants_are_named(tmp_path, capsys) -> None:
    command = ["calibrate", "--draws", "1", "--plants", *NAMES, "--out", str(tmp_path)]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "wrong-direction" in first.out
    assert "(5 of 5)" in first.err
    table = pd.read_csv(tmp_path / "confusion.csv")
    largest = table[table.points == table.points.max()].set_index("plant")
    assert sorted(largest.index) == sorted(NAMES)
    assert largest.right.mean() == pytest.approx(1.0)
    # one label for every plant cannot be right: there are four true labels
    assert largest.truth.nunique() == 4
    assert set(largest.questions) == {194}
    # an adapter margin that grows with the prior is repaired by a gain like any other; only H2 tells it apart
    assert largest.loc["growing", "H2 refuted"] == 1
    assert largest.loc["as-trained", "H2 refuted"] == 0

    # complete runs are not measured again
    files = sorted(tmp_path.rglob("readings/*.parquet"))
    written = [file.stat().st_mtime_ns for file in files]
    assert main([*command, "--quiet"]) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert not again.err
    assert [file.stat().st_mtime_ns for file in files] == written


def test_an_unknown_plant_is_refused_with_the_nearest_name(capsys) -> None:
    assert main(["calibrate", "--plants", "forgeting"]) == 2
    assert "did you mean 'forgetting'?" in capsys.readouterr().err


def test_fewer_than_one_seed_is_refused(capsys) -> None:
    assert main(["calibrate", "--seeds", "0"]) == 2
    assert "--seeds needs" in capsys.readouterr().err


def test_fewer_than_one_draw_is_refused(capsys) -> None:
    assert main(["calibrate", "--draws", "0"]) == 2
    assert "--draws needs" in capsys.readouterr().err
