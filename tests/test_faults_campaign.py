"""The fault campaign of docs/reliability.md, small: six runs, each disturbed and resumed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

from benchmarks.faults import difference

ROOT = Path(__file__).parent.parent


def test_disturbed_runs_end_in_the_undisturbed_readings(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- campaign -->\nold\n<!-- /campaign -->\nafter\n")
    # in its own process, since it forks, which a process with threads must not
    command = [sys.executable, "benchmarks/faults.py", "--runs", "6", "--seed", "7", "--out", str(page)]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "6 of 6 runs ended in the undisturbed readings" in text
    interruptions = re.search(r"after (\d+) interruptions", text)
    assert interruptions is not None
    assert int(interruptions[1]) >= 3


def test_differing_runs_are_told_apart() -> None:
    readings = pd.DataFrame({"item": ["a", "b"], "condition": ["base", "base"], "net_margin": [1.0, float("nan")]})
    assert difference({"readings": readings.copy()}, {"readings": readings}, 0.0) is None
    other = readings.assign(net_margin=[1.0 + 1e-12, float("nan")])
    assert "net_margin differs for item a" in str(difference({"readings": other}, {"readings": readings}, 0.0))
    assert difference({"readings": other}, {"readings": readings}, 1e-4) is None
    other = readings.assign(net_margin=[1.0, 2.0])
    assert "net_margin differs for item b" in str(difference({"readings": other}, {"readings": readings}, 1e-4))
    assert "1 rows, not 2" in str(difference({"readings": readings[1:]}, {"readings": readings}, 0.0))
