"""The whole default audit against its own forward passes, from its profile."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path

from benchmarks.bench.record import Line, spread
from override_gap.reports.cli.audit import main as audit

TITLE = "The default audit of the organism"
LIMITS = (
    "Wall-clock seconds on one thread, as `--profile` records them: `model` is what runs inside forward passes and "
    "unembeddings; everything else is measured in the same run. The organism has half a million parameters, so a pass "
    "costs little more than launching its operations, and bootstraps, figures and tables take as long as the model does. "
    "The first line was 2.65 while passes ran through TransformerBridge, on an AMD EPYC: since the model runs its own "
    "modules they cost two fifths less, and the rest has not shrunk by as much. A third of the audit is the page, whose "
    "figures are drawn three times. A second thread gains nothing on so small a model, and on busy cores threads wait "
    "for one another: one is the default there."
)
SUBJECTS = ("organism",)


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row; the subject is the organism. The first audit only warms."""
    profiles = [profile() for _ in range(repeats + 1)][1:]
    total = [p["total"] for p in profiles]
    model = [p["seconds"]["model"] for p in profiles]
    lines = [
        Line(
            "whole audit",
            "its forward passes",
            spread([a / b for a, b in zip(total, model, strict=True)]),
            goal=("at most", 3),
        ),
        Line("whole audit", "wall clock", spread(total), "s", ("at most", 45)),
    ]
    lines += [
        Line(part, "share of the audit", spread([p["seconds"][part] / p["total"] for p in profiles]), "share")
        for part in profiles[0]["seconds"]
    ]
    return lines, {}


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
