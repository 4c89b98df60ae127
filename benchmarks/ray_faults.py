"""The Ray engine on this machine: pretend nodes killed in mid-run, its cost on one worker, two workers against one.

    python -m benchmarks.ray_faults faults        # 20 runs, each loses a node or two; readings compared with a local run's
    python -m benchmarks.ray_faults overhead      # one worker against the local engine
    python -m benchmarks.ray_faults throughput    # two workers against one pinned to one core; wants a quiet machine

Each writes docs/machines/NAME.json and the table of docs/machines.md. Ray's own start is not counted: an audit pays it once.
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
from override_gap.probes.run import loop as runs
from override_gap.probes.run.audit import open_plan
from override_gap.probes.run.engine import Engine, Local
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.ray import on_ray
from override_gap.probes.run.resolve import resolve

DOCS = Path(__file__).parent.parent / "docs"
PLAN = Plan(
    adapters="hypernetwork", items="organism", policies="as-delivered,slb,uniform-1.5", probes=("margins", "layers")
)
# what the organism is asked by default: units that take a second or more, as a real model's do
WHOLE = replace(plan_from({}), answers=0)


def opener(core: int | None = None) -> Any:
    """The organism and its hypernetwork, in a process that may be bound to one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    return open_plan(PLAN, False, False)


def contents(run: Path) -> dict[str, bytes]:
    """A run's tables."""
    return {str(file.relative_to(run)): file.read_bytes() for file in run.glob("*/*.parquet")}


def measured(
    engine: Engine, items: list[Item], progress: Callable[..., None] = lambda *_: None, plan: Plan = PLAN
) -> tuple[dict, float]:
    """A run in a folder that is gone afterwards: its tables, and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        run_plan(engine, resolve(replace(plan, answers=0), items), Path(folder) / "run", progress)
        return contents(Path(folder) / "run"), time.monotonic() - started


def faults(args: argparse.Namespace) -> dict[str, Any]:
    """Runs on two pretend nodes; in each one node dies at a random instant, in every fourth both do; new ones come."""
    import ray
    from ray.cluster_utils import Cluster

    draw, items = random.Random(args.seed), open_items(PLAN.items)[: args.items]
    runs.DOCUMENTS_PER_UNIT = 4
    wanted, _ = measured(Local(*opener()), items)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80_000_000})
    nodes = []

    def add() -> None:
        nodes.append(cluster.add_node(num_cpus=1, object_store_memory=80_000_000))

    try:
        add(), add()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        rows = []
        with on_ray(opener, threads=1, workers=2) as engine:
            measured(engine, items)  # both models open
            for number in range(args.runs):
                victims, unit, late = 2 if number % 4 == 3 else 1, draw.uniform(0.05, 0.7), draw.uniform(0.0, 0.3)
                struck: list[tuple[float, threading.Thread]] = []

                def kill(doomed: list[Any], late: float) -> None:
                    time.sleep(late)
                    for node in doomed:
                        cluster.remove_node(node, allow_graceful=False)

                def strike(done: int, total: int, _: str, at=unit, how=(victims, late), struck=struck) -> None:
                    if not struck and done >= at * total:
                        doomed = [nodes.pop(draw.randrange(len(nodes))) for _ in range(how[0])]
                        for _ in doomed:
                            add()  # Ray adds nodes from the main thread alone, so the new ones stand before the old fall
                        thread = threading.Thread(target=kill, args=(doomed, how[1]))
                        struck.append((done / total, thread))
                        thread.start()

                found, seconds = measured(engine, items, strike)
                struck[0][1].join()
                rows.append({"nodes": victims, "at": round(struck[0][0], 3), "s": seconds, "equal": found == wanted})
                stored(args, _counted(rows, wanted, args.seed))
                print(f"run {number + 1} of {args.runs}: {rows[-1]}", flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return _counted(rows, wanted, args.seed)


def _counted(rows: list[dict[str, Any]], wanted: dict[str, bytes], seed: int) -> dict[str, Any]:
    return {
        "runs": len(rows),
        "equal": sum(row["equal"] for row in rows),
        "nodes_killed": sum(row["nodes"] for row in rows),
        "units": len(wanted) // 2,
        "seed": seed,
        "each": rows,
    }


def overhead(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the same run here and on one Ray worker, in turns, both models warm."""
    items, local = open_items(PLAN.items)[: args.items], Local(*opener())
    with on_ray(opener, threads=1, workers=1) as engine:
        pairs = _in_turns(items, args.repeats, local, engine)
    ratio = statistics.median(there / here for here, there in pairs)
    return {"local_s": [a for a, _ in pairs], "ray_s": [b for _, b in pairs], "ratio": ratio, "items": len(items)}


def throughput(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the same run on one worker pinned to one core and on two workers on two cores, in turns.

    Each engine has the machine to itself: a worker of another that waits would hold a core as Ray counts them.
    """
    items, pairs, tables = open_items(PLAN.items)[: args.items], [], []
    for _ in range(args.repeats):
        pair = []
        for open_, workers in ((partial(opener, 0), 1), (opener, 2)):
            with on_ray(open_, threads=1, workers=workers) as engine:
                measured(engine, items[:64])  # the first run opens the model
                held, seconds = measured(engine, items, plan=WHOLE)
            tables.append(held)
            pair.append(seconds)
        pairs.append(tuple(pair))
    if any(held != tables[0] for held in tables):
        raise RuntimeError("the engines' readings differ, so their times cannot be compared")
    ratio = statistics.median(alone / both for alone, both in pairs)
    return {"one_s": [a for a, _ in pairs], "two_s": [b for _, b in pairs], "ratio": ratio, "items": len(items)}


def _in_turns(items: list[Item], repeats: int, first: Engine, second: Engine) -> list[tuple[float, float]]:
    tables, _ = measured(first, items, plan=WHOLE)
    again, _ = measured(second, items, plan=WHOLE)
    if tables != again:
        raise RuntimeError("the engines' readings differ, so their times cannot be compared")
    return [(measured(first, items, plan=WHOLE)[1], measured(second, items, plan=WHOLE)[1]) for _ in range(repeats)]


def page() -> str:
    """The table of docs/machines.md from what is stored; what was not measured says so."""

    def held(name: str) -> dict[str, Any] | None:
        file = DOCS / "machines" / f"{name}.json"
        return json.loads(file.read_text()) if file.is_file() else None

    lines = ["| what | goal | measured |", "|---|---|---|"]
    found = held("faults")
    says = "not measured yet"
    if found:
        says = (
            f"{found['equal']} of {found['runs']}, {found['nodes_killed']} nodes killed, {found['units']} units a run"
        )
    lines.append(f"| runs that lost nodes and end in the local engine's bytes | 20 of 20 | {says} |")
    for name, what, goal in (
        ("overhead", "seconds on one Ray worker over seconds of the local engine", "at most 1.10"),
        ("throughput", "seconds on one pinned worker over seconds on two", "at least 1.6"),
    ):
        found = held(name)
        says = "not measured yet"
        if found:
            busy = (
                f"; load {found['load']:.1f} on {found['cores']} cores, which were not free"
                if found["load"] > 1
                else ""
            )
            counts = f"{len(found[next(iter(found))])} pairs of runs, {found['items']} items"
            says = f"{found['ratio']:.2f} (median of {counts}{busy})"
        lines.append(f"| {what} | {goal} | {says} |")
    return "\n".join(lines)


def write_page() -> None:
    """Put the table between the marks of docs/machines.md."""
    file = DOCS / "machines.md"
    mark = "<!-- python -m benchmarks.ray_faults -->"
    kept = re.sub(f"{mark}.*?{mark}", lambda _: f"{mark}\n{page()}\n{mark}", file.read_text(), flags=re.S)
    file.write_text(kept)


def stored(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Keep what was found so far, and put it on the page."""
    (DOCS / "machines").mkdir(exist_ok=True)
    found = found | {"load": args.load, "cores": os.cpu_count()}
    (DOCS / "machines" / f"{args.what}.json").write_text(json.dumps(found, indent=2) + "\n")
    write_page()


def main() -> None:
    """Run one measurement and put it on the page."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("what", choices=("faults", "overhead", "throughput"))
    made.add_argument("--runs", type=int, default=20)
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--items", type=int)
    made.add_argument("--seed", type=int, default=0)
    args = made.parse_args()
    torch.set_num_threads(1)
    args.load = os.getloadavg()[0]
    args.items = args.items or (96 if args.what == "faults" else 400)
    stored(args, globals()[args.what](args))
    print(page())


if __name__ == "__main__":
    main()
