"""What an audit of this size could have seen: the smallest quartile gap that its test would detect."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.readings import DELIVERED, RunFrame, points_of, truth
from override_gap.analyses.stats import power
from override_gap.analyses.stats.estimate import HtmlRepr
from override_gap.analyses.stats.intervals import drop_unmeasured

FEWEST = 16
USUAL_ICC = 0.3
"""Intraclass correlation assumed where the audit cannot give its own."""


@dataclass(frozen=True)
class Sensitivity(HtmlRepr):
    """The smallest gap (as a share; None where no gap would do) that is detected with the given power."""

    questions: int
    points: int
    icc: float
    icc_used: float
    smallest_gap: float | None
    power: float

    def __str__(self) -> str:
        about = f"{self.questions} questions on {self.points} knowledge points"
        if self.smallest_gap is None:
            return f"{about} detect no quartile gap with power {self.power:.0%}"
        return f"{about} detect a quartile gap of {100 * self.smallest_gap:.0f} points with power {self.power:.0%}"

    def frame(self) -> pd.DataFrame:
        """A table of one row."""
        return pd.DataFrame([self.as_json()])

    def as_json(self) -> dict[str, Any]:
        """The section ``power`` of the summary."""
        return asdict(self)


def sensitivity(run: RunFrame) -> Sensitivity | None:
    """Smallest quartile gap detected with power 0.8, at the audit's own accuracy and clustering; None below 16 conflicts."""
    rows = run.select("conflict", DELIVERED)
    success, points = drop_unmeasured(truth(rows["success_top1"]), points_of(rows))
    n, count = len(success), len(set(points))
    if n < FEWEST:
        return None
    icc = power.intraclass(success, points)
    used = USUAL_ICC if math.isnan(icc) else icc
    gap = power.smallest_gap(n, count, float(np.clip(success.mean(), 0.05, 0.95)), used)
    return Sensitivity(n, count, icc, used, gap, 0.8)
