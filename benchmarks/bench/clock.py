"""Timing the sides of a comparison in turn, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import gc
import os
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

CLOCKS: dict[str, Callable[[], float]] = {"CPU": time.process_time, "wall": time.perf_counter}


@dataclass(frozen=True)
class Timed:
    """Seconds of each side, one value per repeat, and by which clock."""

    seconds: Mapping[str, list[float]]
    clock: str

    def ratio(self, ours: str, theirs: str) -> dict[str, Any]:
        """ours / theirs, repeat by repeat: the median and the smallest and largest."""
        ratios = [a / b for a, b in zip(self.seconds[ours], self.seconds[theirs], strict=True)]
        return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "n": len(ratios)}

    def median(self, side: str) -> float:
        """A side's median seconds."""
        return statistics.median(self.seconds[side])


def in_turn(sides: Mapping[str, Callable[[], Any]], repeats: int, clock: str = "CPU", warm: bool = True) -> Timed:
    """Run every side once untimed, then all sides in turn, `repeats` times, each time starting with another side."""
    read, names = CLOCKS[clock], list(sides)
    for act in sides.values() if warm else ():
        act()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            gc.collect()
            start = read()
            sides[name]()
            seconds[name].append(read() - start)
    return Timed(seconds, clock)


def peak_bytes(act: Callable[[], Any]) -> int:
    """Rise of resident memory while `act` runs, in bytes, measured in a forked child; Linux only.

    In a child, so that memory freed by an earlier side but still held by the allocator does not hide what this one needs.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            gc.collect()
            with open("/proc/self/clear_refs", "w") as marks:
                marks.write("5")
            before = _status("VmRSS")
            act()
            os.write(writing, str(_status("VmHWM") - before).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    if status or not text:
        raise RuntimeError("the side whose memory was measured failed in its own process")
    return int(text)


def _status(name: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
