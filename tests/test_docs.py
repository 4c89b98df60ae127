"""The code in the docs runs, and the figures in their text are those that it gives."""

from __future__ import annotations

import re
from pathlib import Path

from override_gap.analyses import readings as frame
from override_gap.analyses.paper import PAPER_STRONGEST, PAPER_WEAKEST, gap_test, paper_gap
from tests.simulate import simulate_readings

HYPOTHESES = (Path(__file__).parent.parent / "docs" / "hypotheses.md").read_text()


def blocks(text: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_a_hypothesis_of_ones_own_is_judged_with_the_others(monkeypatch, capsys) -> None:
    monkeypatch.setattr(frame, "load", lambda _: simulate_readings(0))
    exec(compile(blocks(HYPOTHESES)[0], "hypotheses.md", "exec"), {})
    lines = capsys.readouterr().out.strip().split("\n")
    assert [line.split()[0] for line in lines] == ["H1", "H2", "H3", "H4", "H5", "U1"]
    assert lines[-1].startswith("U1 supported")


def test_the_published_gap_is_the_one_in_the_text(capsys) -> None:
    exec(compile(blocks(HYPOTHESES)[1], "hypotheses.md", "exec"), {})
    assert "gap 0.52" in capsys.readouterr().out
    for effect in (1.0, 2.0):
        own = paper_gap(effect)
        assert f"[{100 * own.low:.0f}, {100 * own.high:.0f}]" in HYPOTHESES
    assert f"p = {gap_test(PAPER_WEAKEST, PAPER_STRONGEST):.0e}" in HYPOTHESES


def test_the_claims_are_those_of_the_code() -> None:
    from override_gap.analyses.hypotheses import STANDARD

    rows = dict(re.findall(r"^\| (H\d) \| ([^|]+) \|", HYPOTHESES, re.M))
    assert set(rows) == {hypothesis.id for hypothesis in STANDARD}
