"""Runs disturbed at random instants and resumed: are the readings those of an undisturbed run, row by row?

    python benchmarks/faults.py --runs 210 --out docs/reliability.md

One process imports the libraries and builds a tiny random model, then forks a child a run, so that a run costs what
measuring costs. Three disturbances, drawn with the seed:

- kill: the process is killed (kill -9) at an instant drawn evenly over the time that an undisturbed run takes;
- disk: the disk is full once a drawn number of bytes is on it (a tmpfs of that size; where none can be mounted, a limit on
  the size of any one file, RLIMIT_FSIZE, drawn over the sizes that the run writes);
- memory: a drawn call of the model raises MemoryError, as do all later ones with more than a drawn number of rows.

Each disturbed run may be disturbed again when it is resumed; the last resume is left alone. Then the tables are compared
with those of the undisturbed run: the same rows, every column equal, floats to the last bit, or within float error where
memory halved a batch. `override-gap doctor` has to find nothing wrong, and no temporary file may be left.
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
    """Eighteen conflicts and retention questions over twelve documents, and one item that cannot be read."""
    made = []
    for n in range(12):
        question = " ".join(WORDS[n : n + 2 + n % 3])
        document = f"{question} red ."
        made.append(Item(f"c{n}", f"p{n}", "conflict", document, question, "red", prior_answer="blue", tier="deep"))
        if n % 2:
            made.append(Item(f"r{n}", f"p{n}", "retention", document, WORDS[n + 3], "ten"))
    made.append(Item("bad", "p0", "conflict", "alpha beta red .", "alpha", "one two", prior_answer="one", tier="deep"))
    return made


def audit(subject: Subject, out: Path, progress: Callable[[int, int, str], None] = lambda *_: None) -> None:
    """Measure the plan into a folder, as the command does."""
    running.run(PLAN, subject, FittedAdapters(subject, steps=1, lr=3e-2), questions(), out, progress)


def in_child(work: Callable[[], None], *, kill_after: float | None = None) -> int:
    """The exit code of some work in a forked process, killed if asked; negative for a signal."""
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
    """A folder on a tmpfs of so many bytes; None where none can be mounted."""
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


def starving(subject: Subject, first: int, most: int) -> None:
    """From call number `first` on, let the model raise MemoryError for more than `most` rows at once."""
    base, seen = subject.model.base_model, [0]

    def refuse(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        seen[0] += 1
        if seen[0] == first or (seen[0] > first and len(given["input_ids"]) > most):
            raise MemoryError("out of memory, as asked by the campaign")

    base.register_forward_pre_hook(refuse, with_kwargs=True)


def counted(subject: Subject, work: Callable[[], None]) -> int:
    """How often the model is called by some work."""
    calls: list[None] = []
    handle = subject.model.base_model.register_forward_pre_hook(lambda *_: calls.append(None))
    try:
        work()
    finally:
        handle.remove()
    return len(calls)


@dataclass
class Tally:
    """What became of the runs of one kind."""

    runs: int = 0
    equal: int = 0
    disturbed: int = 0
    unlike: list[str] = field(default_factory=list)


def tables(out: Path) -> dict[str, pd.DataFrame]:
    """The tables of a run folder, their rows in one order."""
    orders = {
        "readings": ["item", "condition"],
        "layers": ["item", "condition", "layer"],
        "drawn": ["item", "condition", "temperature", "draw"],
    }
    return {name: pd.read_parquet(out / name).sort_values(by, ignore_index=True) for name, by in orders.items()}


def difference(found: dict[str, pd.DataFrame], wanted: dict[str, pd.DataFrame], tolerance: float) -> str | None:
    """How two runs differ, or None; floats may by `tolerance`."""
    for name, table in wanted.items():
        other = found[name]
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


def faulty(out: Path, wanted: dict[str, pd.DataFrame], tolerance: float) -> str | None:
    """What is wrong with a folder that should hold the undisturbed readings, or None."""
    found = diagnose(out)
    if not found.complete or [f for f in found.findings if f.kind != "retry"]:
        return f"doctor: {'; '.join(f'{f.kind} {f.says}' for f in found.findings) or 'not complete'}"
    if leftovers(out):
        return f"left over: {leftovers(out)[0].name}"
    return difference(tables(out), wanted, tolerance)


@dataclass(frozen=True)
class Usual:
    """What an undisturbed run takes: seconds, calls of the model, bytes of the largest file and of all."""

    seconds: float
    calls: int
    largest: int
    bytes: int


def disturbed(kind: str, subject: Subject, out: Path, rng: random.Random, usual: Usual) -> bool:
    """Run once under a disturbance drawn for it; whether it was felt: the run ended early, or memory halved a batch or
    cost a row."""
    if kind == "kill":
        return in_child(lambda: audit(subject, out), kill_after=rng.uniform(0, 1.1 * usual.seconds)) != 0
    if kind == "memory":
        first, most = rng.randint(1, usual.calls), rng.choice([1, 2, 3, 4])

        def starved() -> None:
            starving(subject, first, most)
            audit(subject, out)

        return in_child(starved) != 0 or felt(out)
    limit = rng.randint(usual.largest // 40, usual.largest)

    def limited() -> None:
        # of one file; what a full disk refuses a write with, EFBIG for ENOSPC
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        audit(subject, out)

    return in_child(limited) != 0


def felt(out: Path) -> bool:
    """Whether a run that ended says that memory ran out in it."""
    halved = Store(out).manifest()["memory"]["batch_size"] < PLAN.batch_size
    return halved or any(finding.kind == "retry" for finding in diagnose(out).findings)


def on_small_disk(subject: Subject, out: Path, rng: random.Random, usual: Usual) -> bool | None:
    """Run on a disk that is too small, and copy what it holds to a larger one; None where none can be mounted."""
    from override_gap.probes.store import files as disk

    page = 4096
    with small_disk(page * rng.randint(8, usual.bytes // page)) as folder:
        if folder is None:
            return None

        def tight() -> None:
            # the free space asked for beforehand would refuse the run before anything is written
            disk.SPARE_BYTES = 0
            disk.READING_BYTES = disk.LAYER_BYTES = disk.DRAWN_BYTES = 0
            audit(subject, folder / "run")

        failed = in_child(tight) != 0
        if (folder / "run").exists():
            shutil.copytree(folder / "run", out, dirs_exist_ok=True)
        return failed


def campaign(runs: int, seed: int, folder: Path, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """So many disturbed runs, a third of each kind; what became of them."""
    assert multiprocessing.active_children() == []
    torch.set_num_threads(1)
    running.DOCUMENTS_PER_UNIT = 3
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**GROUPED, "num_hidden_layers": 2})).eval()
    assert model.generation_config is not None
    # a random model would write 64 tokens an answer: the run's time would be spent where nothing else happens
    model.generation_config.eos_token_id = list(range(0, 64, 2))
    subject = wrap(model, words(), "tiny")
    rng = random.Random(seed)
    started = time.monotonic()
    calls = counted(subject, lambda: audit(subject, folder / "warm"))
    clock = time.monotonic()
    if in_child(lambda: audit(subject, folder / "undisturbed")) != 0:
        raise RuntimeError("the undisturbed run failed")
    typical = time.monotonic() - clock
    wanted = tables(folder / "undisturbed")
    files = [file.stat().st_size for file in (folder / "undisturbed").rglob("*") if file.is_file()]
    usual = Usual(typical, calls, max(files), sum(-(-size // 4096) * 4096 for size in files))
    tally = {kind: Tally() for kind in KINDS}
    interruptions, ways = 0, set[str]()
    for number in range(runs):
        kind = KINDS[number % len(KINDS)]
        out, own = folder / f"{kind}-{number}", tally[kind]
        own.runs += 1
        hit = 0
        for _ in range(rng.randint(1, 2)):
            failed: bool | None = None
            if kind == "disk" and not out.exists():
                failed = on_small_disk(subject, out, rng, usual)
                if failed is not None:
                    ways.add("a tmpfs of limited size")
            if failed is None:
                if kind == "disk":
                    ways.add("a limit on the size of a file")
                failed = disturbed(kind, subject, out, rng, usual)
            hit += failed
        interruptions += hit
        own.disturbed += hit > 0
        code = in_child(lambda out=out: audit(subject, out))
        wrong = f"the last resume ended with {code}" if code else None
        wrong = wrong or faulty(out, wanted, TOLERANCE if kind == "memory" else 0.0)
        if wrong is None:
            own.equal += 1
            shutil.rmtree(out)
        else:
            own.unlike.append(f"run {number} ({kind}): {wrong}")
            say(own.unlike[-1])
        if number % 20 == 19:
            say(f"{number + 1} of {runs}, {time.monotonic() - started:.0f} s")
    return {
        "seed": seed,
        "tally": tally,
        "interruptions": interruptions,
        "typical_s": typical,
        "total_s": time.monotonic() - started,
        "rows": {name: len(table) for name, table in wanted.items()},
        "disk": sorted(ways),
    }


def main() -> int:
    """Run the campaign and write its page; exit code 1 unless every run ended in the undisturbed readings."""
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    made.add_argument("--runs", type=int, default=210)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", type=Path, help="the page whose campaign block is replaced")
    args = made.parse_args()
    with tempfile.TemporaryDirectory(prefix="override-gap-faults-") as folder:
        found = campaign(args.runs, args.seed, Path(folder), lambda line: print(line, file=sys.stderr, flush=True))
    text = block(found)
    print(text)
    if args.out:
        page = args.out.read_text(encoding="utf-8")
        begin, end = "<!-- campaign -->\n", "<!-- /campaign -->"
        head, rest = page.split(begin)
        args.out.write_text(head + begin + text + end + rest.split(end)[1], encoding="utf-8")
    return 0 if all(own.equal == own.runs for own in found["tally"].values()) else 1


def block(found: dict[str, Any]) -> str:
    """The campaign's figures as Markdown."""
    names = {
        "kill": "kill -9 at a random instant",
        "disk": f"disk full ({', '.join(found['disk'])})",
        "memory": "MemoryError at a random call of the model",
    }
    lines = ["| disturbance | runs | felt it at least once | equal to the undisturbed run |", "|---|---|---|---|"]
    for kind, own in found["tally"].items():
        lines.append(f"| {names[kind]} | {own.runs} | {own.disturbed} | {own.equal} |")
    runs = sum(own.runs for own in found["tally"].values())
    equal = sum(own.equal for own in found["tally"].values())
    stopped = sum(own.disturbed for own in found["tally"].values())
    lines.append(f"| all | {runs} | {stopped} | {equal} |")
    rows = ", ".join(f"{count} of {name}" for name, count in found["rows"].items())
    lines += [
        "",
        f"Seed {found['seed']}: {equal} of {runs} runs ended in the undisturbed readings, after {found['interruptions']} "
        f"interruptions. Rows compared a run: {rows}. An undisturbed run took {found['typical_s']:.2f} s, the campaign "
        f"{found['total_s'] / 60:.1f} minutes on one core of a shared machine.",
    ]
    wrong = [line for own in found["tally"].values() for line in own.unlike]
    return "\n".join([*lines, *(f"- {line}" for line in wrong)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
