"""What a planned audit can see: the smallest quartile gap, and the fewest questions for a given gap.

Normal approximation for two independent proportions (Fleiss, Levin & Paik 2003, section 4.2) with the design effect
1 + (m - 1) icc for m questions of a knowledge point in a quartile (Kish 1965).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import root_scalar

from override_gap.analyses.stats.intervals import clusters, mean_variance


@dataclass(frozen=True)
class Power:
    """Power of the two-sided quartile-gap test for a planned audit."""

    questions: int
    points: int
    gap: float
    power: float
    design_effect: float

    def __str__(self) -> str:
        return (
            f"{self.questions} questions on {self.points} knowledge points see a gap of {100 * self.gap:.0f} points "
            f"with power {self.power:.0%} (design effect {self.design_effect:.2f})"
        )


def design_effect(questions: float, points: float, icc: float) -> float:
    """1 + (m - 1) icc, m = questions per point; never below 1."""
    return max(1.0, 1 + (questions / points - 1) * icc)


def gap_power(
    gap: float, questions: float, points: float, middle: float = 0.5, icc: float = 0.3, alpha: float = 0.05
) -> float:
    """Probability that a true ``gap`` around accuracy ``middle`` is found between the outer quartiles."""
    size = questions / 4 / design_effect(questions, points, icc)
    weak, strong = min(1.0, middle + gap / 2), max(0.0, middle - gap / 2)
    gap = weak - strong
    pooled = (weak + strong) / 2
    null = math.sqrt(2 * pooled * (1 - pooled) / size)
    alternative = math.sqrt((weak * (1 - weak) + strong * (1 - strong)) / size)
    reach = stats.norm.ppf(1 - alpha / 2) * null
    if alternative < 1e-12:
        return 1.0 if gap > reach else 0.0
    return float(stats.norm.cdf((gap - reach) / alternative))


def smallest_gap(
    questions: int, points: int, middle: float = 0.5, icc: float = 0.3, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """Smallest gap (as a share) found with the wanted power; None if even the largest possible is not."""
    largest = 2 * min(middle, 1 - middle)

    def lack(gap: float) -> float:
        return gap_power(gap, questions, points, middle, icc, alpha) - power

    return float(root_scalar(lack, bracket=(1e-6, largest)).root) if lack(largest) > 0 > lack(1e-6) else None


def fewest_questions(
    gap: float,
    per_point: float = 2.7,
    middle: float = 0.5,
    icc: float = 0.3,
    power: float = 0.8,
    alpha: float = 0.05,
    limit: int = 100_000,
) -> int | None:
    """Fewest conflict questions, ``per_point`` on each knowledge point, that see the gap; None above ``limit``."""
    low, high = 4, limit

    def enough(n: int) -> bool:
        return gap_power(gap, n, n / per_point, middle, icc, alpha) >= power

    if not enough(high):
        return None
    while low < high:
        half = (low + high) // 2
        low, high = (low, half) if enough(half) else (half + 1, high)
    return low


def intraclass(success: np.ndarray, points: np.ndarray) -> float:
    """Intraclass correlation read back from a finished audit: (design effect - 1) / (m - 1), in 0..1."""
    codes, count = clusters(points)
    n, p = len(success), float(success.mean())
    sizes = np.bincount(codes, minlength=count)
    m = (sizes**2).sum() / n
    if count < 2 or m <= 1 or not 0 < p < 1:
        return float("nan")
    effect = mean_variance(success, codes, count) / (p * (1 - p) / n)
    return float(np.clip((effect - 1) / (m - 1), 0, 1))


def plan(questions: int, points: int, gap: float = 0.5, **settings: float) -> Power:
    """Power of a planned audit for a stated gap."""
    icc = settings.get("icc", 0.3)
    return Power(
        questions, points, gap, gap_power(gap, questions, points, **settings), design_effect(questions, points, icc)
    )
