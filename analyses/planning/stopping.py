"""Where simulated audits stop with `--until decided`: the rule of `until_decided`, for many audits at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int8, Integer

from override_gap.analyses.planning.rule import OPEN, Tallies, labels
from override_gap.analyses.stats.group_sequential import bounds, coverage
from override_gap.analyses.until_decided import LOOKS


def looks_at(points: int, looks: int = LOOKS) -> list[int]:
    """After how many points an audit is looked at: groups of like size, the last look at everything."""
    return sorted({max(1, round(points * look / looks)) for look in range(1, looks + 1)})


def stopped(audits: Tallies, places: Sequence[int]) -> tuple[Int8[np.ndarray, " audit"], Integer[np.ndarray, " audit"]]:
    """Each audit's label where it ends, and the number of points there, looked at after ``places`` points."""
    count, points = audits.known.shape
    at = bounds([place / points for place in places])
    label, stop = np.full(count, OPEN, dtype=np.int8), np.full(count, points)
    running = np.ones(count, dtype=bool)
    for place, bound in zip(places, at, strict=True):
        rows = np.flatnonzero(running)
        if len(rows) == 0:
            break
        found, decided = labels(audits.part(running).first(place), coverage(bound))
        ends = decided if place < points else np.ones(len(rows), dtype=bool)
        label[rows[ends]], stop[rows[ends]] = found[ends], place
        running[rows[ends]] = False
    return label, stop
