"""How long a command takes to start, and the imports beneath it."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.bench.clock import in_turn
from benchmarks.bench.record import Line, spread

TITLE = "Start"
LIMITS = (
    "Seconds of the clock, each in a Python of its own. The command line imports no heavy library before a verb needs it. "
    "`margins` is made of tensors, so its import is torch's and little more."
)
SUBJECTS = ("",)
MARGINS = "import time, torch; t = time.perf_counter(); from override_gap.margins import LowRank; print(time.perf_counter() - t)"


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    timed = in_turn(
        {
            "help": lambda: started("from override_gap.reports.cli.main import main; main(['--help'])"),
            "python": lambda: started("pass"),
        },
        max(5, repeats),
        clock="wall",
    )
    value = spread([float(started(MARGINS)) for _ in range(max(5, repeats))])
    return [
        Line("`override-gap --help`", "the clock", spread(timed.seconds["help"]), "s", ("at most", 0.5)),
        Line("Python that does nothing", "the clock", spread(timed.seconds["python"]), "s"),
        Line("`import margins`, torch imported before", "the clock", value, "s", ("at most", 0.3)),
    ], {}


def started(code: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
