"""The size at which something is found with a wanted probability: sizes doubled until it is, then halved in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST, MOST = 10, 1280
"""Knowledge points between which sizes are tried."""
HALVINGS = 3


@dataclass(frozen=True)
class PlannedSize:
    """One size of audit: `points`, `items` (all questions asked), what comes out with which probability, and `reached`.

    `error` is the half-width of the 95% interval of `reached`, which is simulated.
    """

    points: int
    items: int
    reached: float
    error: float
    outcomes: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """A row of the table."""
        return {
            "points": self.points,
            "items": self.items,
            "reached": self.reached,
            "error": self.error,
            "outcomes": self.outcomes,
        }


def search(
    of_size: Callable[[int], PlannedSize], probability: float, points: int | None, most: int = MOST
) -> tuple[list[PlannedSize], PlannedSize | None]:
    """The sizes that were tried, ascending, and the least at which the probability is reached; None up to ``most``.

    ``points``, where given, is among them.
    """
    found: dict[int, PlannedSize] = {}

    def at(size: int) -> PlannedSize:
        if size not in found:
            found[size] = of_size(size)
        return found[size]

    if points is not None:
        at(points)
    low, high = 0, LEAST
    while at(high).reached < probability and high < most:
        low, high = high, min(2 * high, most)
    if at(high).reached >= probability:
        for _ in range(HALVINGS if low else 0):
            middle = (low + high) // 2
            if middle in (low, high):
                break
            low, high = (low, middle) if at(middle).reached >= probability else (middle, high)
    rows = [found[size] for size in sorted(found)]
    enough = [row for row in rows if row.reached >= probability and row.points >= high]
    return rows, (enough[0] if enough else None)


def probability_error(share: float, count: int) -> float:
    """Half-width of the 95% interval of a probability that ``count`` simulated audits give."""
    return 1.96 * float(np.sqrt(max(share * (1 - share), 1 / count) / count))
