"""How time and memory grow with the number of items: the organism, every item with a document and an adapter of its own."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

from benchmarks.bench import kit
from benchmarks.bench.clock import peak_bytes
from benchmarks.bench.record import Line, one
from margins.items import Item
from probes.plan import Plan
from probes.run import run as measure_run
from probes.sources import open_source
from reports.cli.named import items_of

TITLE = "Growth"
LIMITS = (
    "Measuring alone, base and as delivered; each size in a process of its own, from items in memory to tables on disk. A "
    "unit of 32 documents is measured, written and let go, so adapters and readings of other units are not in memory; the "
    "list of units is, with its items' texts. Not covered: the statistics, whose bootstrap holds one "
    "weight a knowledge point and replicate. The largest size takes most of the time of all benchmarks."
)
SUBJECTS = ("organism",)
SIZES = (100, 1000, 10_000, 100_000)


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row; the subject is the organism, and each size is run once."""
    seconds, peaks = zip(*(grown(size) for size in SIZES), strict=True)
    exponent = slope([math.log(n) for n in SIZES], [math.log(s) for s in seconds])
    lines = [
        Line(
            "time by number of items, exponent",
            f"{SIZES[0]:,} to {SIZES[-1]:,} items",
            one(exponent),
            "",
            ("at most", 1.05),
        )
    ]
    mib = 2**20
    lines += [
        Line("peak memory beside the model", f"{n:,} items", one(p / mib), "MiB")
        for n, p in zip(SIZES, peaks, strict=True)
    ]
    lines += [Line("CPU seconds", f"{n:,} items", one(s), "s") for n, s in zip(SIZES, seconds, strict=True)]
    return lines, {"conditions": 2}


def many(count: int) -> list[Item]:
    """Conflicts of the organism, each told in a document of its own: its statement, and two others behind it."""
    known = [item for item in items_of("organism") if item.split == "conflict"]
    told = list(dict.fromkeys(item.document for item in known))
    # one question a document: the next document would be the same for the next wording
    apart = list({item.document: item for item in known}.values())
    triples = islice(product(told, told, apart), count)
    return [
        replace(item, id=f"item-{n}", point=f"point-{n}", document=f"{item.document} {first} {second}")
        for n, (first, second, item) in enumerate(triples)
    ]


def grown(count: int) -> tuple[float, int]:
    """CPU seconds and peak bytes of a run of so many items."""
    own = kit.subject("organism")
    source = open_source("hypernetwork", own)
    items = many(count)
    plan = Plan(
        subject="organism", adapters="hypernetwork", items="synthetic", policies="as-delivered", probes=("margins",)
    )
    with tempfile.TemporaryDirectory() as scratch:
        clock = Path(scratch) / "seconds"

        def act() -> None:
            start = time.process_time()
            measure_run(plan, own, source, items, Path(scratch) / "run")
            clock.write_text(str(time.process_time() - start))

        peak = peak_bytes(act)
        return float(clock.read_text()), peak


def slope(x: list[float], y: list[float]) -> float:
    """Least-squares slope."""
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
