"""How time and memory grow with the number of items: the organism, every item with its own document and adapter."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

from benchmarks.bench import kit
from benchmarks.bench.clock import peak_bytes
from benchmarks.bench.record import Line, single
from override_gap.analyses.readings import load
from override_gap.analyses.summary import summarise
from override_gap.margins.items.item import Item
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run as measure_run
from override_gap.probes.sources import open_source
from override_gap.reports.page import write_page

TITLE = "Growth"
LIMITS = (
    "Base and as delivered; each size in its own process. Measuring goes from items in memory to tables on disk: a unit "
    "of 32 documents is measured, written and released, so adapters and readings of other units are not in memory; the "
    "list of units is, with its items' texts. Statistics and page go from those tables to summary and page: the columns "
    "of the readings are in memory, replicates of the bootstrap are drawn in blocks of a fixed size, and the page's "
    "explorer holds no more than a thousand items. What grows is the columns themselves and what is computed item by "
    "item: some six kilobytes an item. Scatter plots of many points are bitmaps, so that the page does not grow with "
    "them. The largest size takes most of the time of all benchmarks."
)
SUBJECTS = ("organism",)
SIZES = (100, 1000, 10_000, 100_000)
MOST_MIB = 400


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row; the subject is the organism, and each size is run once."""
    measured, reported = zip(*(measured_size(size) for size in SIZES), strict=True)
    lines = []
    # a page takes seconds however small the run, so an exponent over small sizes would be too low
    for what, results, first in (("measuring", measured, 0), ("statistics and page", reported, len(SIZES) - 2)):
        span = f"{SIZES[first]:,} to {SIZES[-1]:,} items"
        logs = [math.log(n) for n in SIZES[first:]]
        exponent = slope(logs, [math.log(seconds) for seconds, _ in results[first:]])
        lines.append(Line(f"{what}: time by number of items, exponent", span, single(exponent), "", ("at most", 1.05)))
        for size, (seconds, peak) in zip(SIZES, results, strict=True):
            lines.append(Line(f"{what}: CPU seconds", f"{size:,} items", single(seconds), "s"))
            goal = ("at most", MOST_MIB) if size == SIZES[-1] else None
            memory = f"{what}: peak memory on top of model and libraries"
            lines.append(Line(memory, f"{size:,} items", single(peak / 2**20), "MiB", goal))
    return lines, {"conditions": 2}


def made_up_items(count: int) -> list[Item]:
    """Conflicts of the organism, each with its own document: the statement of the fact, followed by two others."""
    known = [item for item in open_items("organism") if item.split == "conflict"]
    statements = list(dict.fromkeys(item.document for item in known))
    # one question per document, since the next wording would repeat the same documents
    distinct = list({item.document: item for item in known}.values())
    triples = islice(product(statements, statements, distinct), count)
    return [
        replace(item, id=f"item-{n}", point=f"point-{n}", document=f"{item.document} {first} {second}")
        for n, (first, second, item) in enumerate(triples)
    ]


def measured_size(count: int) -> tuple[tuple[float, int], tuple[float, int]]:
    """CPU seconds and peak bytes of a run of `count` items, and of its statistics and page."""
    subject = kit.subject("organism")
    source = open_source("hypernetwork", subject)
    items = made_up_items(count)
    plan = Plan(
        subject="organism", adapters="hypernetwork", items="synthetic", policies="as-delivered", probes=("margins",)
    )
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        clock = Path(scratch) / "seconds"

        def cost(act: Callable[[], Any]) -> tuple[float, int]:
            def timed() -> None:
                start = time.process_time()
                act()
                clock.write_text(str(time.process_time() - start))

            peak = peak_bytes(timed)
            return float(clock.read_text()), peak

        def report() -> None:
            readings = load(run)
            write_page(run, readings, summarise(readings), None)

        return cost(lambda: measure_run(plan, subject, source, items, run)), cost(report)


def slope(x: list[float], y: list[float]) -> float:
    """Least-squares slope."""
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
