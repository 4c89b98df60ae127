"""Where the processor's time goes in a shape's conditions and in fitting, by cProfile.

python -m benchmarks.gpu.where_time_goes DEVICE SHAPE ITEMS      # as cuda gemma-2-2b 192; cpu small-gemma 24
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.gpu.costs import CONDITIONS, FIT_STEPS, RANK, Shape
from override_gap.margins.condition_parser import parse_conditions
from override_gap.margins.items.item import documents_of
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.unit import measure
from override_gap.probes.run.units import DOCUMENTS_PER_UNIT
from override_gap.probes.sources.fitted import FittedAdapters

SHOWN = 25


def main(argv: Sequence[str]) -> int:
    """Print the dearest functions, by their own time and with what they call."""
    device, name, count = argv
    shape = Shape(name, device, int(count), 1)
    setup = MeasurementSetup(shape.subject, parse_conditions(CONDITIONS), frozenset({"margins"}), 0, 0)
    documents = documents_of(shape.few)
    source = FittedAdapters(shape.subject, steps=FIT_STEPS, rank=RANK, batch=len(documents))

    def conditions() -> None:
        for first in range(0, len(shape.items), DOCUMENTS_PER_UNIT):
            unit = shape.items[first : first + DOCUMENTS_PER_UNIT]
            own = {item.document: shape.adapters[item.document] for item in unit}
            measure(setup, unit, EncodedDocuments(own), frozenset())

    parts: dict[str, Callable[[], Any]] = {"conditions": conditions, "fitted": lambda: source.encode(documents)}
    for part, act in parts.items():
        act()  # warms
        profile = cProfile.Profile()
        profile.enable()
        seconds = shape.clock(act)
        profile.disable()
        print(f"{part}: {seconds:.2f} s")
        for order in ("tottime", "cumulative"):
            pstats.Stats(profile).sort_stats(order).print_stats(SHOWN)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
