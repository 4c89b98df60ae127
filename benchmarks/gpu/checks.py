"""What must hold before a figure counts: the `gpu` tests, the organism's conflicts, and its whole audit, there and here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.bench.record import Line, single
from benchmarks.gpu.parity import MOST, differences
from benchmarks.gpu.steps import CheckError, Step

ROOT = Path(__file__).parents[2]
FORMATS = ("float32", "bfloat16", "float16")
#: Nats by which an audit's float32 readings on a device may differ from the CPU's.
MOST_IN_AUDIT = 1e-4


@dataclass(frozen=True)
class Audits:
    """The organism's audit on the CPU and on a device, each in its own process, at work while other checks run."""

    folder: Path
    running: Mapping[str, subprocess.Popen[str]]

    @classmethod
    def begin(cls, device: str, folder: Path, short: bool) -> Audits:
        """Start them all."""
        wanted = {"cpu float32": ("cpu", "float32"), **{f"{device} {f}": (device, f) for f in ("float32", "bfloat16")}}
        running = {}
        for name, (where, dtype) in wanted.items():
            words = [sys.executable, "-m", "benchmarks.gpu.audit", where, dtype, str(folder / name.replace(" ", "-"))]
            words += ["short"] if short else []
            # in the rehearsal one each: threads of audits that share two cores wait for one another
            env = {**os.environ, "OMP_NUM_THREADS": "1" if device == "cpu" else "2"}
            running[name] = subprocess.Popen(words, cwd=ROOT, env=env, text=True, stderr=subprocess.PIPE)
        return cls(folder, running)

    def compared(self) -> list[Line]:
        """Readings on the device against the CPU's, and the verdicts. Raises CheckError."""
        for name, process in self.running.items():
            _, errors = process.communicate()
            if process.returncode:
                raise CheckError(f"the audit on {name} ended with {process.returncode}: {errors[-1500:]}")
        (_, reference), *others = [(name, self._read(name)) for name in self.running]
        lines = [Line("whole audit of the organism", "CPU float32, wall clock", single(reference[1]["seconds"]), "s")]
        faults = []
        for name, (table, about) in others:
            gaps, flips, status = compare(reference[0], table)
            gap, named = float(gaps["largest"].max()), gaps[gaps["named"]]["largest"]
            delivered = gaps[gaps["named"] & (gaps["condition"] == "as-delivered")]["largest"]
            of_named, beside = f"the CPU's, {len(named)} readings", "the machine, other checks beside it"
            lines += [
                Line(f"audit on {name}: wall clock", beside, single(about["seconds"]), "s"),
                Line(
                    f"audit on {name}: margins, largest gap", f"the CPU's, {len(table)} readings", single(gap), "nats"
                ),
                # another number format can choose another of two answers of like probability, and so another margin
                Line(f"audit on {name}: where items name their old answer", of_named, single(named.max()), "nats"),
                Line(f"audit on {name}: of these, 99 in 100 below", of_named, single(named.quantile(0.99)), "nats"),
                Line(f"audit on {name}: of these, as delivered", "the CPU's", single(delivered.max()), "nats"),
                Line(f"audit on {name}: successes that differ", "the CPU's", single(flips), "readings"),
            ]
            faults += [f"{name}: {status} readings have another status"] if status else []
            faults += [f"{name}: verdict {about['label']!r}, {reference[1]['label']!r} on the CPU"] * (
                about["label"] != reference[1]["label"]
            )
            if name.endswith("float32") and not gap <= MOST_IN_AUDIT:
                faults.append(f"{name}: margins differ by {gap:.3g} nats, more than {MOST_IN_AUDIT}")
        if faults:
            raise CheckError("; ".join(faults), lines)
        return lines

    def _read(self, name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
        folder = self.folder / name.replace(" ", "-")
        return pd.read_parquet(folder / "readings.parquet"), json.loads((folder / "about.json").read_text())


def compare(reference: pd.DataFrame, found: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """Each reading's largest difference of a margin where both are finite; successes and statuses that differ.

    `named`: whether the item names the old answer. Else it is the one that the base itself puts first beside the new one.
    Raises CheckError where the two hold other items or conditions.
    """
    keys = ["item", "condition"]
    both = reference.merge(found, on=keys, suffixes=("", " found"), how="outer", indicator=True)
    if not (both["_merge"] == "both").all():
        raise CheckError(f"{int((both['_merge'] != 'both').sum())} readings are in one of the two audits alone")
    margins = ("prior_margin", "adapter_margin", "net_margin")
    gaps = pd.concat([(both[name] - both[f"{name} found"]).abs() for name in margins], axis=1).max(axis=1)
    flips = int((both["success_margin"].fillna(False) != both["success_margin found"].fillna(False)).sum())
    return (
        both[keys].assign(largest=gaps, named=both["prior_answer"].notna()),
        flips,
        int((both["status"] != both["status found"]).sum()),
    )


def tests(device: str) -> list[Line]:
    """The tests marked `gpu`, in a process of their own. Raises CheckError with the end of what they printed."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "tests/probes/test_gpu.py",
    ]
    env = {**os.environ, "OVERRIDE_GAP_GPU_TESTS_ON": device}
    ended = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    last = ended.stdout.strip().splitlines()[-1] if ended.stdout.strip() else ended.stderr[-300:]
    if ended.returncode:
        raise CheckError(f"{last}; {ended.stdout[-6000:]}")
    return [Line("tests marked `gpu` that pass", "all of them", single(passed(ended.stdout)), "tests")]


def passed(printed: str) -> int:
    """How many tests passed, by what pytest printed at its end. Raises CheckError where it says of none."""
    found = re.search(r"(\d+) passed", printed)
    if found is None:
        raise CheckError(f"no test passed: {printed[-500:]}")
    return int(found[1])


def parity(device: str) -> list[Line]:
    """The organism's conflicts under its hypernetwork against the CPU's float32. Raises CheckError."""
    lines, faults = [], []
    for dtype in FORMATS:
        prior, net, flips, count = differences(device, dtype)
        against = f"the CPU's in float32, {count} conflicts"
        lines += [
            Line(f"{dtype}: prior margins", against, single(prior), "nats", ("at most", MOST[dtype])),
            Line(f"{dtype}: net margins", against, single(net), "nats", ("at most", MOST[dtype])),
            Line(f"{dtype}: first tokens that differ", against, single(flips), "conflicts"),
        ]
        faults += [f"{dtype}: {max(prior, net):.3g} nats, more than {MOST[dtype]}"] * (
            not max(prior, net) <= MOST[dtype]
        )
    if faults:
        raise CheckError("; ".join(faults), lines)
    return lines


def steps(device: str, short: bool = False) -> Sequence[Step]:
    """All checks; the audits are begun first and awaited last."""
    scratch = tempfile.TemporaryDirectory(prefix="audits-")
    begun: list[Audits] = []

    def begin() -> list[Line]:
        begun.append(Audits.begin(device, Path(scratch.name), short))
        return tests(device)

    def compared() -> list[Line]:
        with scratch:
            return begun[0].compared()

    return [Step("tests", begin), Step("parity", lambda: parity(device)), Step("audit", compared)]
