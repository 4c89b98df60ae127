"""Where the time went: parts that exclude one another and sum to the whole."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from override_gap.probes import timing as profile
from override_gap.reports.cli.main import main
from tests.cli.test_cli import items, model  # noqa: F401


def test_a_part_inside_another_stops_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    with profile.profiled() as found, profile.timed("readings"), profile.timed("model"):
        pass
    spent = {part: seconds for part, seconds in found.seconds.items() if seconds}
    # start until 1 and after 10, readings until 3 and from 6 on, model between
    assert spent == {"start": 1.0 + 5.0, "readings": 2.0 + 4.0, "model": 3.0}
    assert sum(found.seconds.values()) == 15.0


def test_without_a_profile_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[None] = []
    monkeypatch.setattr(time, "perf_counter", lambda: read.append(None) or 0.0)
    with profile.timed("model"):
        pass
    assert read == []
    with profile.profiled(), profile.timed("model"):
        pass
    assert len(read) == 4, "the same block is timed where a profile is taken"


def test_an_audit_says_where_its_time_went(model: Path, items: Path, tmp_path: Path, capsys) -> None:  # noqa: F811
    words = ["audit", "--subject", str(model), "--adapters", "fitted:steps=2", "--items", str(items), "--quiet"]
    start = time.perf_counter()
    assert main([*words, "--policies", "slb", "--profile", "--out", str(tmp_path / "run")]) == 0
    wall = time.perf_counter() - start
    kept = json.loads((tmp_path / "run" / "profile.json").read_text())
    assert list(kept["seconds"]) == list(kept["meaning"]) == list(profile.PARTS)
    assert all(seconds > 0 for seconds in kept["seconds"].values())
    assert sum(kept["seconds"].values()) == pytest.approx(kept["total"])
    # nothing of the audit lies outside: what is left of the clock is reading the command line and writing this file
    assert 0.8 * wall < kept["total"] <= wall
    printed = capsys.readouterr().err
    assert all(part in printed for part in profile.PARTS)


def test_a_tiny_model_is_run_on_one_thread_unless_told_otherwise(model: Path, items: Path, tmp_path: Path) -> None:  # noqa: F811
    words = ["audit", "--subject", str(model), "--adapters", "fitted:steps=1", "--items", str(items), "--quiet"]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        main([*words, "--out", str(tmp_path / "a")])
        assert torch.get_num_threads() == 1
        main([*words, "--out", str(tmp_path / "b"), "--threads", "2"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
