"""The code in the docs runs, and the numbers in their text are those that it gives."""

from __future__ import annotations

import re
from pathlib import Path

from override_gap.analyses import readings
from override_gap.analyses.hypotheses import STANDARD
from override_gap.analyses.paper import PAPER_STRONGEST, PAPER_WEAKEST, gap_test, paper_gap
from tests.simulate import simulate_readings

HYPOTHESES = (Path(__file__).parent.parent / "docs" / "hypotheses.md").read_text()


def blocks(text: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_a_hypothesis_of_your_own_is_tested_with_the_others(monkeypatch, capsys) -> None:
    monkeypatch.setattr(readings, "load", lambda _: simulate_readings(0))
    exec(compile(blocks(HYPOTHESES)[0], "hypotheses.md", "exec"), {})
    lines = capsys.readouterr().out.strip().split("\n")
    assert [line.split()[0] for line in lines] == ["H1", "H2", "H3", "H4", "H5", "H6", "U1"]
    assert lines[-1].startswith("U1 supported")


def test_the_published_gap_is_the_one_in_the_text(capsys) -> None:
    exec(compile(blocks(HYPOTHESES)[1], "hypotheses.md", "exec"), {})
    assert "gap 0.52" in capsys.readouterr().out
    for effect in (1.0, 2.0):
        gap = paper_gap(effect)
        assert f"[{100 * gap.low:.0f}, {100 * gap.high:.0f}]" in HYPOTHESES
    assert f"p = {gap_test(PAPER_WEAKEST, PAPER_STRONGEST):.0e}" in HYPOTHESES


def test_every_standard_hypothesis_is_in_the_table() -> None:
    rows = dict(re.findall(r"^\| (H\d) \| ([^|]+) \|", HYPOTHESES, re.M))
    assert set(rows) == {hypothesis.id for hypothesis in STANDARD}
