"""Calibration: pure faults planted in the organism are named rightly, and a mixture is called mixed."""

from __future__ import annotations

import pandas as pd
import pytest

from override_gap.reports.cli.main import main


def test_every_planted_fault_is_named(tmp_path, capsys) -> None:
    assert main(["calibrate", "--seeds", "1", "--out", str(tmp_path)]) == 0
    assert "wrong-direction" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "confusion.csv")
    whole = table[table.points == table.points.max()].set_index("fault")
    assert len(whole) >= 7
    pure = whole[whole.truth != "mixed"]
    assert pure.right.mean() == pytest.approx(1.0)
    # chance could call every fault by one label; the truths here are several
    assert pure.truth.nunique() == 3
    # a margin that grows with the prior is one that amplitude repairs like any other: H2 has to tell it
    assert whole.loc["growing", "H2 refuted"] == 1
    assert whole.loc["as-trained", "H2 refuted"] == 0


def test_seeds_are_checked(capsys) -> None:
    assert main(["calibrate", "--seeds", "0"]) == 2
    assert "--seeds needs" in capsys.readouterr().err
