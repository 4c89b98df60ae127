"""Statistics and page of an audit of the benchmark's size: 489 items under 12 conditions, with simulated readings."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.bench.record import Line, spread
from override_gap.analyses.summary import summarise
from override_gap.probes.store.folder import Store
from override_gap.reports.page import write_page
from tests.simulate import simulate_readings

TITLE = "Statistics and page"
LIMITS = (
    "CPU seconds with the modules imported. Statistics are bootstraps over knowledge points, drawn as one matrix of "
    "weights; the page is the drawing of its figures, three files each. A third of the page's time is embedding fonts in "
    "nine PDFs, so that their text can be searched. What helped: solving a figure's layout once for its three files, no "
    "garbage collection while figures are drawn. What did not: naming the font directly, without the lookup of its "
    "family."
)
SUBJECTS = ("",)

CONDITIONS = (
    *("base", "as-delivered", "uniform-1.25", "uniform-1.5", "uniform-1.75", "uniform-2"),
    *("uniform-2.5", "uniform-3", "slb", "ca", "ca-slb", "random-layers"),
)


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row; no subject is used."""
    readings = simulate_readings(0, questions=195, others=147, conditions=CONDITIONS)
    shape = {"items": int(readings.readings["item"].nunique()), "conditions": len(readings.conditions)}
    spent: dict[str, list[float]] = {"statistics": [], "page": []}
    for _ in range(repeats + 1):
        with tempfile.TemporaryDirectory() as scratch:
            start = time.process_time()
            summary = summarise(readings)
            middle = time.process_time()
            Store(Path(scratch)).write_json("summary.json", summary)
            write_page(Path(scratch), readings, summary, None)
            spent["statistics"].append(middle - start)
            spent["page"].append(time.process_time() - middle)
    both = [a + b for a, b in zip(spent["statistics"], spent["page"], strict=True)]
    return [
        Line("statistics and page", "CPU seconds", spread(both[1:]), "s", ("at most", 10)),
        Line("page and figures", "CPU seconds", spread(spent["page"][1:]), "s", ("at most", 6)),
        Line("statistics", "CPU seconds", spread(spent["statistics"][1:]), "s"),
    ], shape
