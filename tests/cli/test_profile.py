"""`audit --profile`: parts of the time that exclude one another and sum to the whole."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from override_gap.probes import timing
from override_gap.probes.run import audit
from override_gap.reports.cli.main import main
from tests.cli.test_cli import items, model  # noqa: F401


def test_a_part_inside_another_stops_the_outer_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    with timing.profiled() as profile, timing.timed("readings"), timing.timed("model"):
        pass
    seconds = {part: spent for part, spent in profile.seconds.items() if spent}
    # start until 1 and after 10, readings until 3 and from 6 on, model between
    assert seconds == {"start": 1.0 + 5.0, "readings": 2.0 + 4.0, "model": 3.0}
    assert sum(profile.seconds.values()) == 15.0


def test_without_a_profile_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[None] = []
    monkeypatch.setattr(time, "perf_counter", lambda: read.append(None) or 0.0)
    with timing.timed("model"):
        pass
    assert read == []
    with timing.profiled(), timing.timed("model"):
        pass
    assert len(read) == 4, "the same block is timed where a profile is taken"


def test_an_audit_writes_where_its_time_went(model: Path, items: Path, tmp_path: Path, capsys) -> None:  # noqa: F811
    words = ["audit", "--subject", str(model), "--adapters", "fitted:steps=2", "--items", str(items), "--quiet"]
    start = time.perf_counter()
    assert main([*words, "--policies", "slb", "--profile", "--out", str(tmp_path / "run")]) == 0
    wall = time.perf_counter() - start
    written = json.loads((tmp_path / "run" / "profile.json").read_text())
    assert list(written["seconds"]) == list(written["meaning"]) == list(timing.PARTS)
    assert all(seconds > 0 for seconds in written["seconds"].values())
    assert sum(written["seconds"].values()) == pytest.approx(written["total"])
    # nothing of the audit lies outside: what is left of the clock is reading the command line and writing this file
    assert 0.8 * wall < written["total"] <= wall
    printed = capsys.readouterr().err
    assert all(part in printed for part in timing.PARTS)


def test_a_tiny_model_runs_on_one_thread_by_default(
    model: Path,  # noqa: F811
    items: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    run_audit = audit.run_audit

    def watched(*words: Any, **settings: Any) -> Any:
        seen.append(torch.get_num_threads())
        return run_audit(*words, **settings)

    monkeypatch.setattr(audit, "run_audit", watched)
    words = ["audit", "--subject", str(model), "--adapters", "fitted:steps=1", "--items", str(items), "--quiet"]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        main([*words, "--out", str(tmp_path / "a")])
        main([*words, "--out", str(tmp_path / "b"), "--threads", "2"])
        assert seen == [1, 2]
        assert torch.get_num_threads() == 2, "the number is as it was before"
    finally:
        torch.set_num_threads(before)
