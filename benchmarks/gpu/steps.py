"""Steps of the kit: each one's figures are printed and stored as it ends, so that a run that is cut loses one step."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench.record import PACKAGES, Line, installed_version, machine


class CheckError(Exception):
    """What did not hold, with the figures that were measured."""

    def __init__(self, says: str, lines: Sequence[Line] = ()) -> None:
        super().__init__(says)
        self.lines = lines


@dataclass(frozen=True)
class Step:
    """A named part of the kit; `act` returns its figures, and raises where a check fails."""

    name: str
    act: Callable[[], Sequence[Line]]


def perform(steps: Sequence[Step], out: Path | None, most_seconds: float) -> int:
    """Run the steps in turn and return how many failed; one that would begin after `most_seconds` is named and left out.

    `out` keeps the steps of runs before, except those that are measured again.
    """
    begun, failed = time.monotonic(), 0
    for step in steps:
        started = time.monotonic()
        lines: Sequence[Line] = ()
        fault: str | None = None
        if started - begun > most_seconds:
            fault = f"not begun: {most_seconds:.0f} s were over"
        else:
            try:
                lines = step.act()
            except Exception as error:
                traceback.print_exc()
                lines = error.lines if isinstance(error, CheckError) else ()
                fault = f"{type(error).__name__}: {error}".strip()[:2000]
        failed += fault is not None
        seconds = time.monotonic() - started
        for line in lines:
            figure = f"{line.value['median']:.4g} [{line.value['low']:.4g}, {line.value['high']:.4g}] {line.unit}"
            print(f"{step.name}: {line.measure} / {line.against}: {figure}", flush=True)
        print(f"{step.name}: {fault or 'done'}, {seconds:.1f} s", flush=True)
        if out is not None:
            store(out, step.name, seconds, fault, lines)
    return failed


def store(out: Path, name: str, seconds: float, fault: str | None, lines: Sequence[Line]) -> None:
    """Put a step's figures into the file, with where and when they were measured."""
    stored = json.loads(out.read_text(encoding="utf-8"))["steps"] if out.is_file() else []
    measured = {
        "name": name,
        "seconds": seconds,
        "fault": fault,
        "lines": [asdict(line) | {"met": line.met} for line in lines],
        "machine": machine(),
        "versions": {package: installed_version(package) for package in PACKAGES},
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    content = {"steps": [*(step for step in stored if step["name"] != name), measured]}
    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


class Clock:
    """Seconds of a call, including the device's work."""

    def __init__(self, device: str) -> None:
        self.wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def __call__(self, act: Callable[[], Any]) -> float:
        self.wait()
        start = time.perf_counter()
        act()
        self.wait()
        return time.perf_counter() - start

    def in_turn(self, sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
        """Seconds of every side, run one after the other `repeats` times; a turn before only warms."""
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for repeat in range(repeats + 1):
            for name, act in sides.items():
                taken = self(act)
                seconds[name] += [taken] if repeat else []
        return seconds
