"""Runs disturbed at random times and resumed: are their readings equal to those of an undisturbed run, row by row?

    python benchmarks/faults.py --runs 210 --out docs/reliability.md

One process imports the libraries and builds a tiny random model, then forks one child per run, so that a run costs
only its measuring. Three disturbances, drawn with the seed:

- kill: the process is killed (kill -9) at a time drawn uniformly over the duration of an undisturbed run;
- disk: the disk is full once a drawn number of bytes is on it (a tmpfs of that size; where none can be mounted, a limit on
  the size of any one file, RLIMIT_FSIZE, drawn over the sizes that the run writes);
- memory: a drawn call of the model raises MemoryError, as do all later ones with more than a drawn number of rows.

A disturbed run may be disturbed again when it is resumed; the last resume is undisturbed. Then the tables are compared with
those of the undisturbed run: the same rows, every column equal, floats to the last bit, or within float error where memory
halved a batch. `override-gap doctor` must find nothing wrong, and no temporary file may be left.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from override_gap.margins.items.item import Item
from override_gap.probes.plan import Plan
from override_gap.probes.run import loop as running
from override_gap.probes.run import units as cutting
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.doctor import diagnose
from override_gap.probes.store.files import leftovers
from override_gap.probes.store.folder import Store
from override_gap.probes.subject.model import Subject, wrap
from tests.families import GROUPED, words

KINDS = ("kill", "disk", "memory")
TOLERANCE = 1e-4
WORDS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon".split()
)
PLAN = Plan(
    subject="tiny",
    adapters="fitted",
    items="own",
    policies="as-delivered",
    probes=("margins", "layers", "answers", "sampled"),
    answers=3,
    temperatures=(1.0,),
    draws=1,
    batch_size=8,
)


def questions() -> list[Item]:
    """Eighteen conflicts and retention questions on twelve documents, and one item that cannot be measured."""
    items = []
    for n in range(12):
        question = " ".join(WORDS[n : n + 2 + n % 3])
        document = f"{question} red ."
        items.append(Item(f"c{n}", f"p{n}", "conflict", document, question, "red", prior_answer="blue", tier="deep"))
        if n % 2:
            items.append(Item(f"r{n}", f"p{n}", "retention", document, WORDS[n + 3], "ten"))
    items.append(Item("bad", "p0", "conflict", "alpha beta red .", "alpha", "one two", prior_answer="one", tier="deep"))
    return items


def audit(subject: Subject, out: Path, progress: Callable[[int, int, str], None] = lambda *_: None) -> None:
    """Measure the plan into a folder, as `override-gap audit` does."""
    running.run(PLAN, subject, FittedAdapters(subject, steps=1, lr=3e-2), questions(), out, progress)


def in_child(work: Callable[[], None], *, kill_after: float | None = None) -> int:
    """The exit code of `work` in a forked process, killed after `kill_after` seconds; negative for a signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            with open(os.devnull, "w") as hidden:
                traceback.print_exc(file=hidden)
            os._exit(2)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def small_disk(size: int) -> Iterator[Path | None]:
    """A folder on a tmpfs of `size` bytes; None where none can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="override-gap-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(folder)], capture_output=True, check=True)
        shutil.rmtree(folder, ignore_errors=True)


def limit_memory(subject: Subject, first: int, most: int) -> None:
    """From call number `first` on, let the model raise MemoryError for more than `most` rows at once."""
    base, calls = subject.model.base_model, [0]

    def refuse(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        calls[0] += 1
        if calls[0] == first or (calls[0] > first and len(kwargs["input_ids"]) > most):
            raise MemoryError("out of memory (simulated by the fault campaign)")

    base.register_forward_pre_hook(refuse, with_kwargs=True)


def count_calls(subject: Subject, work: Callable[[], None]) -> int:
    """How often `work` calls the model."""
    calls: list[None] = []
    handle = subject.model.base_model.register_forward_pre_hook(lambda *_: calls.append(None))
    try:
        work()
    finally:
        handle.remove()
    return len(calls)


@dataclass
class Tally:
    """Outcomes of the runs of one kind."""

    runs: int = 0
    equal: int = 0
    affected: int = 0
    differences: list[str] = field(default_factory=list)


def tables(out: Path) -> dict[str, pd.DataFrame]:
    """The tables of a run folder, with their rows sorted."""
    orders = {
        "readings": ["item", "condition"],
        "layers": ["item", "condition", "layer"],
        "drawn": ["item", "condition", "temperature", "draw"],
    }
    return {name: pd.read_parquet(out / name).sort_values(by, ignore_index=True) for name, by in orders.items()}


def difference(actual: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame], tolerance: float) -> str | None:
    """How two runs differ, or None; floats may differ by `tolerance`."""
    for name, table in expected.items():
        other = actual[name]
        if len(other) != len(table):
            return f"{name}: {len(other)} rows, not {len(table)}"
        for column in table.columns:
            left, right = other[column], table[column]
            if table[column].dtype.kind == "f":
                near = np.isclose(left, right, rtol=0, atol=tolerance, equal_nan=True) if tolerance else None
                same = (left.isna() & right.isna()) | (left == right) if near is None else near
            elif table[column].dtype.kind == "O":
                same = left.map(repr) == right.map(repr)  # lists, texts and nulls
            else:
                same = (left.isna() & right.isna()) | (left == right)
            if not bool(np.all(same)):
                row = table.iloc[int(np.argmin(np.asarray(same, dtype=bool)))]
                return f"{name}: {column} differs for item {row['item']} under {row['condition']}"
    return None


def defect(out: Path, expected: dict[str, pd.DataFrame], tolerance: float) -> str | None:
    """What is wrong with a folder that should hold the undisturbed readings, or None."""
    diagnosis = diagnose(out)
    if not diagnosis.complete or [f for f in diagnosis.findings if f.kind != "retry"]:
        return f"doctor: {'; '.join(f'{f.kind} {f.says}' for f in diagnosis.findings) or 'not complete'}"
    if leftovers(out):
        return f"left over: {leftovers(out)[0].name}"
    return difference(tables(out), expected, tolerance)


@dataclass(frozen=True)
class Undisturbed:
    """Cost of an undisturbed run: seconds, calls of the model, bytes of the largest file and of all files."""

    seconds: float
    calls: int
    largest: int
    bytes: int


def run_disturbed(kind: str, subject: Subject, out: Path, rng: random.Random, undisturbed: Undisturbed) -> bool:
    """Run once with a random disturbance; returns whether it had an effect: the run ended early, or memory halved a batch or
    cost a row."""
    if kind == "kill":
        return in_child(lambda: audit(subject, out), kill_after=rng.uniform(0, 1.1 * undisturbed.seconds)) != 0
    if kind == "memory":
        first, most = rng.randint(1, undisturbed.calls), rng.choice([1, 2, 3, 4])

        def with_limited_memory() -> None:
            limit_memory(subject, first, most)
            audit(subject, out)

        return in_child(with_limited_memory) != 0 or ran_out_of_memory(out)
    limit = rng.randint(undisturbed.largest // 40, undisturbed.largest)

    def with_file_limit() -> None:
        # a limit per file: writes fail with EFBIG, where a full disk gives ENOSPC
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        audit(subject, out)

    return in_child(with_file_limit) != 0


def ran_out_of_memory(out: Path) -> bool:
    """Whether a finished run records that memory ran out."""
    halved = Store(out).manifest()["memory"]["batch_size"] < PLAN.batch_size
    return halved or any(finding.kind == "retry" for finding in diagnose(out).findings)


def on_small_disk(subject: Subject, out: Path, rng: random.Random, undisturbed: Undisturbed) -> bool | None:
    """Run on a disk that is too small, and copy its content to a larger one; None where none can be mounted."""
    from override_gap.probes.store import files as disk

    page = 4096
    with small_disk(page * rng.randint(8, undisturbed.bytes // page)) as folder:
        if folder is None:
            return None

        def on_full_disk() -> None:
            # otherwise the check of free space would refuse the run before anything is written
            disk.SPARE_BYTES = 0
            disk.READING_BYTES = disk.LAYER_BYTES = disk.DRAWN_BYTES = 0
            audit(subject, folder / "run")

        failed = in_child(on_full_disk) != 0
        if (folder / "run").exists():
            shutil.copytree(folder / "run", out, dirs_exist_ok=True)
        return failed


def tiny_subject(seed: int) -> Subject:
    """A random model of two layers; from here on units are of three documents, so that its run has four."""
    torch.set_num_threads(1)
    cutting.DOCUMENTS_PER_UNIT = 3
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**GROUPED, "num_hidden_layers": 2})).eval()
    assert model.generation_config is not None
    # without frequent end-of-text tokens a random model would spend the run on generating 64 tokens per answer
    model.generation_config.eos_token_id = list(range(0, 64, 2))
    return wrap(model, words(), "tiny")


def campaign(runs: int, seed: int, folder: Path, log: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """`runs` disturbed runs, a third of each kind; the outcomes."""
    assert multiprocessing.active_children() == []
    subject = tiny_subject(seed)
    rng = random.Random(seed)
    started = time.monotonic()
    calls = count_calls(subject, lambda: audit(subject, folder / "warm"))
    clock = time.monotonic()
    if in_child(lambda: audit(subject, folder / "undisturbed")) != 0:
        raise RuntimeError("the undisturbed run failed")
    typical = time.monotonic() - clock
    expected = tables(folder / "undisturbed")
    files = [file.stat().st_size for file in (folder / "undisturbed").rglob("*") if file.is_file()]
    undisturbed = Undisturbed(typical, calls, max(files), sum(-(-size // 4096) * 4096 for size in files))
    tally = {kind: Tally() for kind in KINDS}
    interruptions, ways = 0, set[str]()
    for number in range(runs):
        kind = KINDS[number % len(KINDS)]
        out, counts = folder / f"{kind}-{number}", tally[kind]
        counts.runs += 1
        hit = 0
        for _ in range(rng.randint(1, 2)):
            failed: bool | None = None
            if kind == "disk" and not out.exists():
                failed = on_small_disk(subject, out, rng, undisturbed)
                if failed is not None:
                    ways.add("a tmpfs of limited size")
            if failed is None:
                if kind == "disk":
                    ways.add("a limit on the size of a file")
                failed = run_disturbed(kind, subject, out, rng, undisturbed)
            hit += failed
        interruptions += hit
        counts.affected += hit > 0
        code = in_child(lambda out=out: audit(subject, out))
        wrong = f"the last resume ended with {code}" if code else None
        wrong = wrong or defect(out, expected, TOLERANCE if kind == "memory" else 0.0)
        if wrong is None:
            counts.equal += 1
            shutil.rmtree(out)
        else:
            counts.differences.append(f"run {number} ({kind}): {wrong}")
            log(counts.differences[-1])
        if number % 20 == 19:
            log(f"{number + 1} of {runs}, {time.monotonic() - started:.0f} s")
    return {
        "seed": seed,
        "tally": tally,
        "interruptions": interruptions,
        "typical_s": typical,
        "total_s": time.monotonic() - started,
        "rows": {name: len(table) for name, table in expected.items()},
        "disk": sorted(ways),
    }


def main() -> int:
    """Run the campaign and write its page; exit code 1 unless every run ended in the undisturbed readings."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=210)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="page whose campaign block is replaced")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="override-gap-faults-") as folder:
        result = campaign(args.runs, args.seed, Path(folder), lambda line: print(line, file=sys.stderr, flush=True))
    text = block(result)
    print(text)
    if args.out:
        page = args.out.read_text(encoding="utf-8")
        begin, end = "<!-- campaign -->\n", "<!-- /campaign -->"
        head, rest = page.split(begin)
        args.out.write_text(head + begin + text + end + rest.split(end)[1], encoding="utf-8")
    return 0 if all(counts.equal == counts.runs for counts in result["tally"].values()) else 1


def block(result: dict[str, Any]) -> str:
    """The campaign's figures as Markdown."""
    names = {
        "kill": "kill -9 at a random instant",
        "disk": f"disk full ({', '.join(result['disk'])})",
        "memory": "MemoryError at a random call of the model",
    }
    lines = ["| disturbance | runs | affected at least once | equal to the undisturbed run |", "|---|---|---|---|"]
    for kind, counts in result["tally"].items():
        lines.append(f"| {names[kind]} | {counts.runs} | {counts.affected} | {counts.equal} |")
    runs = sum(counts.runs for counts in result["tally"].values())
    equal = sum(counts.equal for counts in result["tally"].values())
    stopped = sum(counts.affected for counts in result["tally"].values())
    lines.append(f"| all | {runs} | {stopped} | {equal} |")
    rows = ", ".join(f"{count} of {name}" for name, count in result["rows"].items())
    lines += [
        "",
        f"Seed {result['seed']}: {equal} of {runs} runs ended in the undisturbed readings, after {result['interruptions']} "
        f"interruptions. Rows compared per run: {rows}. An undisturbed run took {result['typical_s']:.2f} s, the campaign "
        f"{result['total_s'] / 60:.1f} minutes on one core of a shared machine.",
    ]
    wrong = [line for counts in result["tally"].values() for line in counts.differences]
    return "\n".join([*lines, *(f"- {line}" for line in wrong)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
