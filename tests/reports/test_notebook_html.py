"""What a notebook shows of a run and of its report: the first screen, escaped, with its numbers."""

from __future__ import annotations

import html
import re

import override_gap as og
from override_gap.analyses.run import Run
from override_gap.analyses.summary import summarise
from override_gap.reports.build import Report
from override_gap.reports.notebook import first_screen_html
from override_gap.reports.page.first_screen import first_screen
from tests.reports.hostile import HOSTILE
from tests.reports.reader import Reader
from tests.simulate import simulate_readings

FEW = {"conditions": ("base", "as-delivered", "uniform-2", "slb"), "points": 20, "others": 20, "with_layers": False}


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_a_run_and_its_report_show_their_first_screen_in_a_notebook() -> None:
    from IPython.core.formatters import DisplayFormatter

    assert og.load  # by the front door
    run = Run.of(simulate_readings(1, **FEW))
    summary = summarise(run)
    for shown in (run, Report("runs/x/<b>report.html", summary)):
        data, _ = DisplayFormatter().format(shown)
        assert "text/html" in data
        for part in first_screen(summary):
            assert part.heading in words(data["text/html"])
        assert "<script" not in data["text/html"]
    assert "runs/x/&lt;b&gt;report.html" in data["text/html"]
    row = next(
        row for row in summary["outcomes"]
        if (row["split"], row["condition"], row["measure"], row["population"], row["tier"])
        == ("conflict", "as-delivered", "top1", "all", None)
    )  # fmt: skip
    assert f"{100 * row['value']:.0f}%" in words(data["text/html"])


def test_whatever_names_hold_is_text() -> None:
    run = simulate_readings(1, **FEW)
    summary = summarise(run)
    plain = Reader(first_screen_html(summary))
    for text in HOSTILE:
        spoilt = {**summary, "subject": {"name": text}, "adapters": {"name": text}}
        page = Reader(first_screen_html(spoilt))
        assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]


def test_a_run_without_the_front_door_is_its_text(monkeypatch) -> None:
    monkeypatch.setattr("override_gap.analyses.run.SHOWN_BY", None)
    shown = Run.of(simulate_readings(1, **FEW))._repr_html_()
    assert shown.startswith("<pre>Run of")
