"""How time and memory of measuring grow with the number of items: the organism, every item with its own document and adapter."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

from benchmarks.bench import kit
from benchmarks.bench.clock import peak_bytes
from benchmarks.bench.record import Line, single
from override_gap.margins.items.item import Item
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run as measure_run
from override_gap.probes.sources import open_source

TITLE = "Growth"
LIMITS = (
    "Base and as delivered; each size in its own process. Measuring goes from items in memory to tables on disk: a unit "
    "of 32 documents is measured, written and released, so adapters and readings of other units are not in memory; the "
    "list of units is, with its items' texts. The largest size takes most of the time of all benchmarks."
)
SUBJECTS = ("organism",)
SIZES = (100, 1000, 10_000, 100_000)
MOST_MIB = 400


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row; the subject is the organism, and each size is run once."""
    measured = [measured_size(size) for size in SIZES]
    span = f"{SIZES[0]:,} to {SIZES[-1]:,} items"
    exponent = slope([math.log(n) for n in SIZES], [math.log(seconds) for seconds, _ in measured])
    lines = [Line("measuring: time by number of items, exponent", span, single(exponent), "", ("at most", 1.05))]
    for size, (seconds, peak) in zip(SIZES, measured, strict=True):
        lines.append(Line("measuring: CPU seconds", f"{size:,} items", single(seconds), "s"))
        goal = ("at most", MOST_MIB) if size == SIZES[-1] else None
        memory = "measuring: peak memory on top of model and libraries"
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


def measured_size(count: int) -> tuple[float, int]:
    """CPU seconds and peak bytes of a run of `count` items."""
    subject = kit.subject("organism")
    source = open_source("hypernetwork", subject)
    items = made_up_items(count)
    plan = Plan(
        subject="organism", adapters="hypernetwork", items="synthetic", policies="as-delivered", probes=("margins",)
    )
    with tempfile.TemporaryDirectory() as scratch:
        clock = Path(scratch) / "seconds"

        def measure() -> None:
            start = time.process_time()
            measure_run(plan, subject, source, items, Path(scratch) / "run")
            clock.write_text(str(time.process_time() - start))

        peak = peak_bytes(measure)
        return float(clock.read_text()), peak


def slope(x: list[float], y: list[float]) -> float:
    """Least-squares slope."""
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
