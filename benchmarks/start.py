"""How long commands take to answer, beside a bare interpreter's start: python -m benchmarks.start [--repeats N].

`--help` of every command is to take at most 3 times as long as `python -c pass`; `list` and a wrong path less than a second.
Each command runs in an interpreter of its own, in turn with the bare one, so that other load on the machine falls on both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from override_gap.reports.cli.list import KINDS
from override_gap.reports.cli.main import VERBS

MOST_TIMES, MOST_SECONDS = 3.0, 1.0
BARE = [sys.executable, "-c", "pass"]
COMMAND = [str(Path(sys.executable).with_name("override-gap"))]


def seconds(command: list[str]) -> float:
    """Wall-clock time of one run."""
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    return time.perf_counter() - start


def against_bare(words: list[str], repeats: int) -> tuple[float, float]:
    """A command's median seconds, and the median of its ratio to a bare start timed right before it."""
    pairs = [(seconds(BARE), seconds([*COMMAND, *words])) for _ in range(repeats)]
    return median(own for _, own in pairs), median(own / bare for bare, own in pairs)


def main() -> int:
    """Print a line per command; exit code 1 if one takes longer than it should."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--repeats", type=int, default=7)
    repeats = options.parse_args().repeats
    missed = 0
    print(f"{'command':<32} {'seconds':>8} {'x bare':>7}  target")
    for words in [["--help"], *([verb, "--help"] for verb in VERBS)]:
        spent, ratio = against_bare(words, repeats)
        missed += ratio > MOST_TIMES
        print(f"{' '.join(words):<32} {spent:>8.3f} {ratio:>7.2f}  at most {MOST_TIMES:g} x bare")
    for words in [*(["list", kind] for kind in KINDS), ["report", "nowhere"], ["compare", "nowhere", "elsewhere"]]:
        spent, ratio = against_bare(words, repeats)
        missed += spent > MOST_SECONDS
        print(f"{' '.join(words):<32} {spent:>8.3f} {ratio:>7.2f}  at most {MOST_SECONDS:g} s")
    print("every target is met" if not missed else f"{missed} targets are missed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
