"""The page of an audit of 620 items under 20 conditions in a real browser: opening, filters, size."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.bench.record import Line
from benchmarks.page_speed import lines_of
from override_gap.analyses.summary import summarise
from override_gap.reports.page import write_page
from tests.simulate import simulate_readings

TITLE = "The page in a browser"
LIMITS = (
    "Headless Chromium without a GPU, on the page of simulated readings; `python -m benchmarks.page_speed RUN` measures a "
    "run's own page. The page opens with its folds shut, and is loaded once its scripts have run; the explorer's fold is "
    "opened at once, and that opening ends when its plot is drawn. A filter ends when the rows that are left are in the "
    "table and laid out and the plot is drawn again. Goals are for the wall clock, which other work on the machine "
    "lengthens; beside it stands the processor time of the page's main thread. Most of an opening is reading and running "
    "the plotting library, which is in the file; half of a filter is the layout of 50 rows."
)
SUBJECTS = ("",)

CONDITIONS = (
    *("base", "as-delivered", *(f"uniform-{gain}" for gain in ("0.5", "1.25", "1.5", "1.75", "2", "2.5", "3"))),
    *("slb", "ca", "ca-slb", "random-layers", "bottom-layers", "random-matched", "margin-matched", "relevance-gate"),
    *("logit-fusion-1.5", "in-context", "null-other"),
)


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row; no subject is used."""
    readings = simulate_readings(0, questions=326, others=147, conditions=CONDITIONS)
    shape = {"items": int(readings.readings["item"].nunique()), "conditions": readings.readings["condition"].nunique()}
    with tempfile.TemporaryDirectory() as scratch:
        report = write_page(Path(scratch), readings, summarise(readings), None)
        return lines_of(report, repeats), shape
