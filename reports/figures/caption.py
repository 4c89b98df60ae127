"""The caption beneath a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from override_gap.margins.text import plural

SHARE = "95% intervals at the effective sample size, which allows for shared knowledge points or relations (the wider)"
MEAN = "95% Student intervals from the variance clustered by knowledge point or by relation (the wider)"


@dataclass(frozen=True)
class Caption:
    """A caption in parts. From it alone a reader should be able to disagree with the figure."""

    title: str
    """The question that the figure answers."""
    shows: str
    computed: str
    """How each mark was computed."""
    n: str
    interval: str
    """Which interval is drawn, or that none is."""
    refutes: str
    """What would refute the claim that the figure is used for."""

    def text(self) -> str:
        """The caption as one paragraph, for a figure that stands alone."""
        parts = (self.title, self.shows, self.computed, self.n, self.interval)
        return f"{' '.join(parts)} What would refute this: {self.refutes}"


def size_sentence(estimate: Mapping | None, what: str = "questions") -> str:
    """'n = 194 questions in 72 knowledge points.', from an estimate or anything with its two counts."""
    if not estimate or estimate.get("n") is None:
        return "n is stated on each panel."
    points = estimate.get("points")
    return f"n = {estimate['n']:,} {what}" + (f" in {plural(points, 'knowledge point')}." if points else ".")
