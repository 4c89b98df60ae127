"""Power of the quartile-gap test: the smallest gap that an audit of a given size would detect.

Normal approximation for two independent proportions (Fleiss, Levin & Paik 2003, section 4.2) with the design effect
1 + (m - 1) icc for m questions of a knowledge point in a quartile (Kish 1965).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats
from scipy.optimize import root_scalar

from override_gap.analyses.stats.intervals import clusters, mean_variance


def design_effect(questions: float, points: float, icc: float) -> float:
    """1 + (m - 1) icc, m = questions per point; never below 1."""
    return max(1.0, 1 + (questions / points - 1) * icc)


def gap_power(
    gap: float, questions: float, points: float, middle: float = 0.5, icc: float = 0.3, alpha: float = 0.05
) -> float:
    """Probability that the test detects a true ``gap`` between the outer quartiles, whose mean accuracy is ``middle``."""
    size = questions / 4 / design_effect(questions, points, icc)
    weak, strong = min(1.0, middle + gap / 2), max(0.0, middle - gap / 2)
    gap = weak - strong
    pooled = (weak + strong) / 2
    null = math.sqrt(2 * pooled * (1 - pooled) / size)
    alternative = math.sqrt((weak * (1 - weak) + strong * (1 - strong)) / size)
    threshold = stats.norm.ppf(1 - alpha / 2) * null
    if alternative < 1e-12:
        return 1.0 if gap > threshold else 0.0
    return float(stats.norm.cdf((gap - threshold) / alternative))


def smallest_gap(
    questions: int, points: int, middle: float = 0.5, icc: float = 0.3, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """Smallest gap (as a share) detected with the given power; None if even the largest possible gap is not."""
    largest = 2 * min(middle, 1 - middle)

    def excess_power(gap: float) -> float:
        return gap_power(gap, questions, points, middle, icc, alpha) - power

    if not excess_power(largest) > 0 > excess_power(1e-6):
        return None
    return float(root_scalar(excess_power, bracket=(1e-6, largest)).root)


def intraclass(success: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"]) -> float:
    """Intraclass correlation of a finished audit: (design effect - 1) / (m - 1), in 0..1; NaN where it is not defined."""
    codes, count = clusters(points)
    n, p = len(success), float(success.mean())
    sizes = np.bincount(codes, minlength=count)
    m = (sizes**2).sum() / n
    if count < 2 or m <= 1 or not 0 < p < 1:
        return float("nan")
    effect = mean_variance(success, codes, count) / (p * (1 - p) / n)
    return float(np.clip((effect - 1) / (m - 1), 0, 1))
