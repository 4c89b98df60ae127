"""The whole default audit against its own forward passes, from its profile."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench.record import Line, spread
from override_gap.reports.cli.audit import main as audit

TITLE = "The default audit of the organism"
LIMITS = (
    "The command is `override-gap audit` in a process of its own on one thread, from its start to its end: CPU seconds are "
    "those of user and system, which other work on the cores lengthens less than the wall clock. The other lines are "
    "wall-clock shares of audits within one process that has the libraries loaded, as `--profile` records them: `model` is "
    "what runs inside forward passes and unembeddings; everything else is measured in the same run. The default audit has "
    "20 conditions (null-other among them), the search of every failure under its own and another document's adapter, causal "
    "effects and answers in words. The organism has half a million parameters, so a pass costs little more than launching its "
    "operations, and bootstraps, figures and tables take as long as the model does. The line against the forward passes was "
    "2.65 while passes ran through TransformerBridge, on an AMD EPYC: since the model runs its own modules they cost two "
    "fifths less, and the rest has not shrunk by as much. A second thread gains nothing on so small a model, and on busy cores "
    "threads wait for one another: one is the default there. Seconds are those of an AMD EPYC, beside other work on the second "
    "core; on an Intel Xeon the command took 29 s before figures had a form for narrow windows, which doubled what drawing them "
    "takes. Drawing is matplotlib's layout, text and ticks: widths of words kept from figure to figure (kept), no "
    "hinting and PNGs by another library gained little."
)
SUBJECTS = ("organism",)
MOST_SECONDS = 20


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row; the subject is the organism. The first audit only warms."""
    profiles = [profile() for _ in range(repeats + 1)][1:]
    total = [p["total"] for p in profiles]
    model = [p["seconds"]["model"] for p in profiles]
    wall, cpu = zip(*(command() for _ in range(repeats)), strict=True)
    lines = [
        Line("the command, CPU seconds", "one thread", spread(cpu), "s", ("at most", MOST_SECONDS)),
        Line("the command, wall clock", "one thread", spread(wall), "s", ("at most", MOST_SECONDS)),
        Line(
            "whole audit",
            "its forward passes",
            spread([a / b for a, b in zip(total, model, strict=True)]),
            goal=("at most", 3),
        ),
        Line("whole audit", "wall clock, libraries loaded", spread(total), "s"),
    ]
    lines += [
        Line(part, "share of the audit", spread([p["seconds"][part] / p["total"] for p in profiles]), "share")
        for part in profiles[0]["seconds"]
    ]
    return lines, {}


def command() -> tuple[float, float]:
    """Wall-clock and CPU seconds of the default audit as a command of its own."""
    executable = str(Path(sys.executable).with_name("override-gap"))
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        words = [executable, "audit", "--out", str(Path(scratch) / "run"), "--quiet", "--threads", "1"]
        subprocess.run(words, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def profile() -> dict:
    """The profile of one audit with default settings."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        out = Path(scratch) / "run"
        audit(["--out", str(out), "--quiet", "--profile", "--allow-errors"])
        return json.loads((out / "profile.json").read_text())
