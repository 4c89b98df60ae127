"""The Ray engine on one machine: simulated nodes killed during runs, its overhead, two workers against one.

    python -m benchmarks.ray_faults faults        # 20 runs, each loses one or two nodes; readings compared with a local run's
    python -m benchmarks.ray_faults overhead      # one worker against the local engine
    python -m benchmarks.ray_faults throughput    # two workers against one pinned to one core; needs an idle machine

Each writes docs/machines/NAME.json and the table of docs/machines.md. Ray's own start, once per audit, is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from override_gap.margins.items.item import Item
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan, plan_from
from override_gap.probes.run import units as cutting
from override_gap.probes.run.audit import open_plan
from override_gap.probes.run.engine import Engine, Local
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.ray import on_ray
from override_gap.probes.run.resolve import resolve

DOCS = Path(__file__).parent.parent / "docs"
PLAN = Plan(
    adapters="hypernetwork", items="organism", policies="as-delivered,slb,uniform-1.5", probes=("margins", "layers")
)
# the default audit of the organism: units that take a second or more, as those of a real model do
DEFAULT_PLAN = replace(plan_from({}), answers=0)


def opener(core: int | None = None) -> Any:
    """The organism and its hypernetwork, in a process that may be bound to one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    return open_plan(PLAN, False, False)


def contents(run: Path) -> dict[str, bytes]:
    """The bytes of a run's tables."""
    return {str(file.relative_to(run)): file.read_bytes() for file in run.glob("*/*.parquet")}


def run_tables(
    engine: Engine, items: list[Item], progress: Callable[..., None] = lambda *_: None, plan: Plan = PLAN
) -> tuple[dict, float]:
    """A run in a temporary folder: its tables, and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        run_plan(engine, resolve(replace(plan, answers=0), items), Path(folder) / "run", progress)
        return contents(Path(folder) / "run"), time.monotonic() - started


def faults(args: argparse.Namespace) -> dict[str, Any]:
    """Runs on two simulated nodes; in each, one node dies at a random time, in every fourth both do; they are replaced."""
    import ray
    from ray.cluster_utils import Cluster

    draw, items = random.Random(args.seed), open_items(PLAN.items)[: args.items]
    cutting.DOCUMENTS_PER_UNIT = 4
    expected, _ = run_tables(Local(*opener()), items)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80_000_000})
    nodes = []

    def add() -> None:
        nodes.append(cluster.add_node(num_cpus=1, object_store_memory=80_000_000))

    try:
        add(), add()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        rows = []
        with on_ray(opener, threads=1, workers=2) as engine:
            run_tables(engine, items)  # opens both models
            for number in range(args.runs):
                victims, unit, late = 2 if number % 4 == 3 else 1, draw.uniform(0.05, 0.7), draw.uniform(0.0, 0.3)
                strikes: list[tuple[float, threading.Thread]] = []

                def kill(doomed_nodes: list[Any], late: float) -> None:
                    time.sleep(late)
                    for node in doomed_nodes:
                        cluster.remove_node(node, allow_graceful=False)

                def strike(done: int, total: int, _: str, at=unit, how=(victims, late), strikes=strikes) -> None:
                    if not strikes and done >= at * total:
                        doomed_nodes = [nodes.pop(draw.randrange(len(nodes))) for _ in range(how[0])]
                        for _ in doomed_nodes:
                            add()  # Ray adds nodes only from the main thread, so the replacements are added before the kill
                        thread = threading.Thread(target=kill, args=(doomed_nodes, how[1]))
                        strikes.append((done / total, thread))
                        thread.start()

                tables, seconds = run_tables(engine, items, strike)
                strikes[0][1].join()
                rows.append(
                    {"nodes": victims, "at": round(strikes[0][0], 3), "s": seconds, "equal": tables == expected}
                )
                store(args, _summary(rows, expected, args.seed))
                print(f"run {number + 1} of {args.runs}: {rows[-1]}", flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return _summary(rows, expected, args.seed)


def _summary(rows: list[dict[str, Any]], expected: dict[str, bytes], seed: int) -> dict[str, Any]:
    return {
        "runs": len(rows),
        "equal": sum(row["equal"] for row in rows),
        "nodes_killed": sum(row["nodes"] for row in rows),
        "units": len(expected) // 2,
        "seed": seed,
        "each": rows,
    }


def overhead(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the same run with the local engine and on one Ray worker, in turn, with both models open."""
    items, local = open_items(PLAN.items)[: args.items], Local(*opener())
    with on_ray(opener, threads=1, workers=1) as engine:
        pairs = _in_turns(items, args.repeats, local, engine)
    ratio = statistics.median(there / here for here, there in pairs)
    return {"local_s": [a for a, _ in pairs], "ray_s": [b for _, b in pairs], "ratio": ratio, "items": len(items)}


def throughput(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the same run on one worker pinned to one core and on two workers on two cores, in turns.

    Only one engine exists at a time, since Ray would count a waiting worker of the other as occupying a core.
    """
    items, pairs, tables = open_items(PLAN.items)[: args.items], [], []
    for _ in range(args.repeats):
        pair = []
        for open_, workers in ((partial(opener, 0), 1), (opener, 2)):
            with on_ray(open_, threads=1, workers=workers) as engine:
                run_tables(engine, items[:64])  # the first run opens the model
                run_result, seconds = run_tables(engine, items, plan=DEFAULT_PLAN)
            tables.append(run_result)
            pair.append(seconds)
        pairs.append(tuple(pair))
    if any(other != tables[0] for other in tables):
        raise RuntimeError("the engines' readings differ, so their times cannot be compared")
    ratio = statistics.median(alone / both for alone, both in pairs)
    return {"one_s": [a for a, _ in pairs], "two_s": [b for _, b in pairs], "ratio": ratio, "items": len(items)}


def _in_turns(items: list[Item], repeats: int, first: Engine, second: Engine) -> list[tuple[float, float]]:
    tables, _ = run_tables(first, items, plan=DEFAULT_PLAN)
    again, _ = run_tables(second, items, plan=DEFAULT_PLAN)
    if tables != again:
        raise RuntimeError("the engines' readings differ, so their times cannot be compared")
    return [
        (run_tables(first, items, plan=DEFAULT_PLAN)[1], run_tables(second, items, plan=DEFAULT_PLAN)[1])
        for _ in range(repeats)
    ]


def page() -> str:
    """The table of docs/machines.md from the stored results; missing ones are marked as not measured."""

    def stored_result(name: str) -> dict[str, Any] | None:
        file = DOCS / "machines" / f"{name}.json"
        return json.loads(file.read_text()) if file.is_file() else None

    lines = ["| quantity | goal | measured |", "|---|---|---|"]
    result = stored_result("faults")
    cell = "not measured yet"
    if result:
        cell = f"{result['equal']} of {result['runs']}, {result['nodes_killed']} nodes killed, {result['units']} units per run"
    lines.append(f"| runs that lost nodes and end in the local engine's bytes | 20 of 20 | {cell} |")
    for name, what, goal in (
        ("overhead", "seconds on one Ray worker over seconds of the local engine", "at most 1.10"),
        ("throughput", "seconds on one pinned worker over seconds on two", "at least 1.6"),
    ):
        result = stored_result(name)
        cell = "not measured yet"
        if result:
            busy = (
                f"; load {result['load']:.1f} on {result['cores']} cores, which were not free"
                if result["load"] > 1
                else ""
            )
            counts = f"{len(result[next(iter(result))])} pairs of runs, {result['items']} items"
            cell = f"{result['ratio']:.2f} (median of {counts}{busy})"
        lines.append(f"| {what} | {goal} | {cell} |")
    return "\n".join(lines)


def write_page() -> None:
    """Put the table between the marks of docs/machines.md."""
    file = DOCS / "machines.md"
    mark = "<!-- python -m benchmarks.ray_faults -->"
    text = re.sub(f"{mark}.*?{mark}", lambda _: f"{mark}\n{page()}\n{mark}", file.read_text(), flags=re.S)
    file.write_text(text)


def store(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """Store the results so far, and put them on the page."""
    (DOCS / "machines").mkdir(exist_ok=True)
    result = result | {"load": args.load, "cores": os.cpu_count()}
    (DOCS / "machines" / f"{args.what}.json").write_text(json.dumps(result, indent=2) + "\n")
    write_page()


def main() -> None:
    """Run one measurement and put it on the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("faults", "overhead", "throughput"))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--items", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.load = os.getloadavg()[0]
    args.items = args.items or (96 if args.what == "faults" else 400)
    store(args, globals()[args.what](args))
    print(page())


if __name__ == "__main__":
    main()
