"""Calibration: the verdict names each fault planted in the organism, and calls a mixture mixed."""

from __future__ import annotations

import pandas as pd
import pytest

from override_gap.reports.cli.main import main


def test_every_planted_fault_is_named(tmp_path, capsys) -> None:
    assert main(["calibrate", "--seeds", "1", "--out", str(tmp_path)]) == 0
    assert "wrong-direction" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "confusion.csv")
    largest = table[table.points == table.points.max()].set_index("fault")
    assert len(largest) >= 7
    pure = largest[largest.truth != "mixed"]
    assert pure.right.mean() == pytest.approx(1.0)
    # one label for every fault cannot be right: there are three true labels
    assert pure.truth.nunique() == 3
    # an adapter margin that grows with the prior is repaired by a gain like any other; only H2 tells it apart
    assert largest.loc["growing", "H2 refuted"] == 1
    assert largest.loc["as-trained", "H2 refuted"] == 0


def test_fewer_than_one_seed_is_refused(capsys) -> None:
    assert main(["calibrate", "--seeds", "0"]) == 2
    assert "--seeds needs" in capsys.readouterr().err
