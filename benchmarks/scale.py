"""Estimated cost of a million questions x 100 methods on a 7B model, from measured costs and stated assumptions.

python -m benchmarks.scale --measure    # the costs of a reading and of a unit, stored in docs/machines/costs.json
python -m benchmarks.scale              # docs/scale.md from them
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import tempfile
import tracemalloc
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
SAMPLE = 20_000


@dataclass(frozen=True)
class Assumed:
    """Values that are assumed, not measured. Tokens and questions per document are those of a CounterFact-like set."""

    questions: int = 1_000_000
    methods: int = 100
    conditions: int = 7
    parameters: float = 7e9
    layers: int = 32
    question_tokens: int = 24
    document_tokens: int = 64
    questions_a_document: int = 4
    documents_a_unit: int = 32
    peak_flops: float = 989e12
    utilisation: float = 0.25
    gpus: int = 8
    open_s: float = 120.0
    hours_between_losses: float = 12.0
    notice_s: float = 30.0


WHAT = {
    "questions": "questions",
    "methods": "methods, one run each",
    "conditions": "conditions per run: the base and the default policies",
    "parameters": "parameters of the model; a pass costs 2 FLOPs per parameter and token",
    "layers": "layers of the model",
    "question_tokens": "tokens per question and condition",
    "document_tokens": "tokens per document; its adapter costs one pass of the model over them",
    "questions_a_document": "questions per document",
    "documents_a_unit": "documents per unit, as in `override_gap.probes.run.loop`",
    "peak_flops": "peak of a GPU, FLOP/s (H100, dense bfloat16, its data sheet)",
    "utilisation": "share of the peak that is reached with short rows",
    "gpus": "GPUs per run, one worker each",
    "open_s": "seconds to open the model on a node",
    "hours_between_losses": "mean hours until a node is lost (spot machines)",
    "notice_s": "seconds until a loss is noticed and the worker is started elsewhere",
}


@dataclass(frozen=True)
class Costs:
    """Measured costs: bytes on disk per row of each table, bytes of the driver's memory per question."""

    reading_bytes: float
    layer_bytes: float
    driver_bytes: float


PAGE = """# A million questions x 100 methods on a 7B model

What would it cost to measure a hundred methods with a million questions on a model of 7 billion parameters: how many hours of
GPUs, how much disk? This page is for planning a study of that size. It combines costs that were measured on small runs with
assumptions that are listed, and names the assumption that matters most.

An estimate by calculation and simulation: `python -m benchmarks.scale` writes this page from costs measured by `--measure` and
from assumptions. No such run was made.

| quantity | |
|---|---|
{taken}

Units are short compared with the time to open a model, so a lost node costs its start and hardly any readings; for the same
reason many GPUs per method cost more than many methods in parallel. The layers table takes most of the disk space: leave the
probe out where the question is not about layers. Generated answers are measured on a sample (`--answers`) and are left out
here; so are savings from passes that conditions share. Bytes per row are those of the organism's short texts, {documents}
documents per unit.

## Assumed

| | |
|---|---|
{assumed}

The share of the peak is the least certain number: the hours of measuring are inversely proportional to it, and little else
depends on it.
"""


def measure_costs() -> Costs:
    """Audit the organism for the size of rows; split made-up questions into units for the driver's memory."""
    import pyarrow.parquet as pq

    from override_gap.margins.items.item import Item
    from override_gap.margins.items.item_set import ItemSet
    from override_gap.probes.items import open_items
    from override_gap.probes.plan import Plan
    from override_gap.probes.run.audit import open_plan
    from override_gap.probes.run.engine import Local
    from override_gap.probes.run.loop import run_plan
    from override_gap.probes.run.resolve import resolve
    from override_gap.probes.run.units import split_into_units

    plan = Plan(
        adapters="hypernetwork", items="organism", policies="as-delivered,slb,uniform-1.5", probes=("margins", "layers")
    )
    bytes_per_row = {}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run_plan(Local(*open_plan(plan, False, False)), resolve(plan, open_items("organism")[:400]), run)
        for table in ("readings", "layers"):
            files = list((run / table).glob("*.parquet"))
            bytes_per_row[table] = sum(f.stat().st_size for f in files) / sum(
                pq.read_metadata(f).num_rows for f in files
            )
    words = [f"word{n}" for n in range(500)]
    draw = random.Random(0)
    tracemalloc.start()
    items = []
    for n in range(SAMPLE):
        if n % 4 == 0:
            document = " ".join(draw.choices(words, k=64))
        question = " ".join(draw.choices(words, k=20))
        items.append(Item(f"i{n}", f"p{n // 4}", "conflict", document, question, "red", "blue", "deep"))
    units = split_into_units(ItemSet.of(items), "identity", 0)
    driver_bytes = tracemalloc.get_traced_memory()[0] / len(items)
    tracemalloc.stop()
    assert units
    return Costs(bytes_per_row["readings"], bytes_per_row["layers"], driver_bytes)


def unit_s(a: Assumed) -> float:
    """Seconds of a unit on one GPU: the adapters' passes, then every question under every condition."""
    tokens = a.documents_a_unit * (a.document_tokens + a.questions_a_document * a.conditions * a.question_tokens)
    return 2 * a.parameters * tokens / (a.peak_flops * a.utilisation)


def units(a: Assumed) -> int:
    """Units of all methods together."""
    return a.methods * -(-a.questions // (a.questions_a_document * a.documents_a_unit))


@dataclass(frozen=True)
class Simulated:
    """A simulated run: seconds until the last unit, nodes lost, GPU seconds spent on anything but finished units."""

    wall_s: float
    losses: int
    wasted_s: float


def simulate(work_s: float, count: int, a: Assumed, seed: int = 0) -> Simulated:
    """Simulate `count` units of `work_s` seconds on the GPUs; nodes are lost at exponential times, their units are repeated.

    A lost worker is away for notice_s, then opens the model for open_s; its unfinished unit is lost.
    """
    draw = random.Random(seed)
    mean = a.hours_between_losses * 3600
    events = [(a.open_s, worker, draw.expovariate(1 / mean)) for worker in range(a.gpus)]
    heapq.heapify(events)
    left, losses, wasted, wall = count, 0, a.gpus * a.open_s, 0.0
    while left:
        now, worker, dies = heapq.heappop(events)
        if now + work_s <= dies:
            left -= 1
            wall = max(wall, now + work_s)
            heapq.heappush(events, (now + work_s, worker, dies))
            continue
        # a node lost while its model opens opens it again, and the time spent counts as well
        losses += 1
        back = max(now, dies) + a.notice_s + a.open_s
        wasted += max(0.0, dies - now) + a.notice_s + a.open_s
        heapq.heappush(events, (back, worker, back + draw.expovariate(1 / mean)))
    return Simulated(wall, losses, wasted)


def page(costs: Costs, a: Assumed) -> str:
    """docs/scale.md."""
    work, count = unit_s(a), units(a)
    runs = [simulate(work, count // a.methods, a, seed) for seed in range(a.methods)]
    losses, wall = sum(run.losses for run in runs), sum(run.wall_s for run in runs)
    no_losses = simulate(work, count // a.methods, replace(a, hours_between_losses=1e12)).wall_s * a.methods
    starts = a.methods * a.gpus * a.open_s
    each = (sum(run.wasted_s for run in runs) - starts) / max(1, losses)
    readings = a.questions * a.methods * a.conditions
    layers = readings * (a.layers + 1)
    assumed = [(WHAT[f.name], f"{getattr(a, f.name):,.12g}") for f in fields(Assumed)]
    hours = count * work / 3600
    lost = work / 2 + a.notice_s + a.open_s
    tables = {
        "readings": (readings, costs.reading_bytes),
        "layers, with the probe `layers`": (layers, costs.layer_bytes),
    }
    taken = [
        ("units", f"{count:,} of {a.documents_a_unit} documents, {work:.2f} s of a GPU each"),
        (
            "GPU hours, nothing lost",
            f"{hours:,.0f} measuring, {starts / 3600:,.0f} opening the model, once per GPU and method",
        ),
        *[
            (k, f"{n:,} rows, {n * size / 1e9:,.0f} GB; {size:.0f} bytes per row, measured")
            for k, (n, size) in tables.items()
        ],
        (
            "driver's memory, one method at a time",
            f"{a.questions * costs.driver_bytes / 1e9:.2f} GB of questions, {costs.driver_bytes:.0f} bytes each, measured; "
            "readings never pass through it",
        ),
        (
            "a lost node",
            f"{lost:.0f} s of a GPU: half a unit, {a.notice_s:.0f} s to notice, {a.open_s:.0f} s to open the model elsewhere",
        ),
        (
            "nodes lost, all methods simulated",
            f"{losses} in {wall * a.gpus / 3600:,.0f} GPU hours; {each:.0f} s of a GPU each; "
            f"wall time {wall / no_losses - 1:+.1%}",
        ),
    ]
    return PAGE.format(taken=_rows(taken), assumed=_rows(assumed), documents=a.documents_a_unit)


def _rows(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(f"| {what} | {says} |" for what, says in pairs)


def main() -> None:
    """Measure the costs, or write the page from those kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    file = DOCS / "machines" / "costs.json"
    if parser.parse_args().measure:
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(asdict(measure_costs()), indent=2) + "\n")
    (DOCS / "scale.md").write_text(page(Costs(**json.loads(file.read_text())), Assumed()))


if __name__ == "__main__":
    main()
