"""How long the command line and the import of `margins` take to start."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.bench.clock import in_turn
from benchmarks.bench.record import Line, spread

TITLE = "Start"
LIMITS = (
    "Wall-clock seconds, each in a fresh Python process. The command line imports no heavy library before a verb needs "
    "it. `margins` works on tensors, so its import costs little beyond torch's."
)
SUBJECTS = ("",)
MARGINS = "import time, torch; t = time.perf_counter(); from override_gap.margins import LowRank; print(time.perf_counter() - t)"


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    timed = in_turn(
        {
            "help": lambda: output_of("from override_gap.reports.cli.main import main; main(['--help'])"),
            "python": lambda: output_of("pass"),
        },
        max(5, repeats),
        clock="wall",
    )
    value = spread([float(output_of(MARGINS)) for _ in range(max(5, repeats))])
    return [
        Line("`override-gap --help`", "wall clock", spread(timed.seconds["help"]), "s", ("at most", 0.5)),
        Line("Python that does nothing", "wall clock", spread(timed.seconds["python"]), "s"),
        Line(
            "`from override_gap.margins import LowRank`, torch imported before",
            "wall clock",
            value,
            "s",
            ("at most", 0.3),
        ),
    ], {}


def output_of(code: str) -> str:
    """What a fresh Python process prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
