"""How statistics and page grow with the number of items: a measured run, and many copies of it under other names."""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench import kit
from benchmarks.bench.clock import peak_bytes
from benchmarks.bench.record import Line, single
from benchmarks.bench.rows.growth import MOST_MIB, made_up_items, slope
from override_gap.analyses.readings import load
from override_gap.analyses.summary import summarise
from override_gap.margins.items.item import Document
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run as measure_run
from override_gap.probes.sources import open_source
from override_gap.probes.store.folder import Store
from override_gap.probes.store.sealed import read_manifest, units
from override_gap.probes.store.unit_tables import Promises, read_unit
from override_gap.reports.page import write_page

TITLE = "Growth of statistics and page"
LIMITS = (
    "Base and as delivered; each size in its own process, from the tables on disk to summary and page. The tables are those of "
    "2,000 measured items, once, 10 times and 50 times under other names of items, points and documents, in units of 32. "
    "Columns of numbers and texts of a run of more than 250,000 rows (readings, layers, geometry and the like together) lie on "
    "disk, in a file of the run's folder, and are in memory only while an analysis reads them; the smaller sizes are below that. "
    "Replicates of the bootstrap are drawn in blocks of a fixed size, and the explorer holds no more than a thousand items. What "
    "still grows is the tables on their way to that file, columns of lists and of truths that were not always measured, and "
    "what an analysis computes item by item: labels of questions, ranks, points of a figure. "
    "While all columns were in memory, 100,000 items took 570 MiB on the same machine."
)
SUBJECTS = ("organism",)
MEASURED = 2000
COPIES = (1, 10, 50)


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row; the subject is the organism, and each size is run once."""
    with tempfile.TemporaryDirectory() as scratch:
        first = Path(scratch) / "first"
        _measure(first)
        costs = {}
        for copies in COPIES:
            folder = Path(scratch) / f"run-{copies}"
            copied(first, folder, copies)
            costs[MEASURED * copies] = _cost(folder)
    lines = []
    sizes, seconds = list(costs), [spent for spent, _ in costs.values()]
    # a page takes seconds however small the run, so an exponent from the smallest size on would be too low
    exponent = slope([math.log(n) for n in sizes[1:]], [math.log(spent) for spent in seconds[1:]])
    span = f"{sizes[1]:,} to {sizes[-1]:,} items"
    lines.append(Line("time by number of items, exponent", span, single(exponent), "", ("at most", 1.05)))
    for size, (spent, peak) in costs.items():
        lines.append(Line("CPU seconds", f"{size:,} items", single(spent), "s"))
        goal = ("at most", MOST_MIB) if size == sizes[-1] else None
        memory = "peak memory on top of model and libraries"
        lines.append(Line(memory, f"{size:,} items", single(peak / 2**20), "MiB", goal))
    return lines, {"conditions": 2}


def _measure(folder: Path) -> None:
    subject = kit.subject("organism")
    plan = Plan(
        subject="organism", adapters="hypernetwork", items="synthetic", policies="as-delivered", probes=("margins",)
    )
    measure_run(plan, subject, open_source("hypernetwork", subject), made_up_items(MEASURED), folder)


def copied(run: Path, out: Path, copies: int) -> None:
    """A run of `copies` times the items of a finished one: its units under other names, sealed as an audit seals its own."""
    found, _ = read_manifest(run)
    assert found is not None
    manifest = {name: value for name, value in found.items() if name not in ("checksum", "seals")}
    items = {**manifest["items"], "count": manifest["items"]["count"] * copies}
    manifest |= {"items": items, "units": manifest["units"] * copies, "complete": False}
    store, keys = Store(out), []
    with store.locked():
        store.open(manifest, manifest["identity"])
        for key in units(run):
            tables = {name: table.to_pylist() for name, table in read_unit(run, key, Promises.of(found)).tables.items()}
            for copy in range(copies):
                keys.append(hashlib.sha256(f"{key} {copy}".encode()).hexdigest()[:16])
                readings, geometry = _renamed(tables, copy)
                store.write_unit(keys[-1], readings, [], 0, {"geometry": geometry}, manifest["identity"])
        store.write_json("manifest.json", manifest | {"complete": True, "seals": store.seals(keys)})


def _renamed(tables: dict[str, list[dict[str, Any]]], copy: int) -> tuple[list[dict], list[dict]]:
    texts = {row["document"]: f"{row['document']} {copy}" for row in tables["readings"]}
    keys = {Document(text).key: Document(new).key for text, new in texts.items()}
    readings = [
        {**row, "item": f"{row['item']}-{copy}", "point": f"{row['point']}-{copy}", "document": texts[row["document"]]}
        for row in tables["readings"]
    ]
    return readings, [{**row, "document": keys[row["document"]]} for row in tables.get("geometry", [])]


def _cost(run: Path) -> tuple[float, int]:
    """CPU seconds and peak bytes of statistics and page, from the run's tables on."""
    clock = run.parent / f"{run.name}-seconds"

    def report() -> None:
        start = time.process_time()
        readings = load(run)
        write_page(run, readings, summarise(readings), None)
        clock.write_text(str(time.process_time() - start))

    peak = peak_bytes(report)
    return float(clock.read_text()), peak
