"""Figures of a choice: override, gain over as delivered, and price, of the condition that each item was given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Integer, Shaped

from override_gap.analyses.compare.conditions import paired
from override_gap.analyses.price import UNITS, not_below_zero
from override_gap.analyses.readings import DELIVERED
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import mean, proportion
from override_gap.analyses.tune.choice import Figures
from override_gap.analyses.tune.outcomes import Outcomes, Sample
from override_gap.analyses.verdict import read_by_rule

NAMES = {
    "conflict": "conflicts overridden",
    "conflict_as_delivered": "conflicts overridden as delivered",
    "difference": "more than as delivered",
    "novel": "new facts recalled",
    "combination": "combined with another fact",
    "retention": "unrelated answers kept",
    "kl": "KL to the base there",
}


def chosen_values(sample: Sample, given: Integer[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Each item's outcome under the candidate that it was given."""
    return sample.values[np.arange(len(sample)), given]


def figures(found: Outcomes, given: dict[str, Integer[np.ndarray, " n"]], policy: str) -> Figures:
    """The figures where each item of a split is under the candidate of this number; `policy` names the choice.

    Intervals are clustered as everywhere, and read by the verdict's rule: an audit of fewer than ten relations speaks of these.
    """
    conflict, delivered = found.conflict, found.names.index(DELIVERED)
    won, as_is = chosen_values(conflict, given["conflict"]), conflict.values[:, delivered]
    points = conflict.points
    gap = paired(won, as_is, points, (policy, DELIVERED), "conflict", "top1").difference
    result: Figures = {
        "conflict": share("conflict", won, points),
        "conflict_as_delivered": share("conflict_as_delivered", as_is, points),
        "difference": replace(read_by_rule(gap, points), name=NAMES["difference"]),
        "novel": None,
        "combination": None,
        "retention": None,
        "kl": None,
    }
    for split in ("novel", "combination", "retention"):
        sample: Sample | None = getattr(found, split)
        if sample is not None:
            result[split] = share(split, chosen_values(sample, given[split]), sample.points)
    if found.kl is not None:
        kl = chosen_values(found.kl, given["kl"])
        if np.isfinite(kl).all():
            estimate = read_by_rule(mean(NAMES["kl"], kl, found.kl.points, units=UNITS), found.kl.points)
            result["kl"] = not_below_zero(estimate)
    return result


def joined(fresh: Figures, fitted: Figures) -> Figures:
    """Figures out of fold whose intervals also reach as far as those of the policy on all items.

    Where a choice is close, a fold that holds the losses is the one whose leaving out lets a larger gain pass: the folds then
    state more cost than the one policy has, and all items state less. The truth of that policy lies between
    (docs/calibration/tuning.md).
    """
    result: Figures = {}
    for name, estimate in fresh.items():
        other = fitted.get(name)
        if estimate is not None and other is not None and np.isfinite([estimate.low, other.low]).all():
            estimate = replace(estimate, low=min(estimate.low, other.low), high=max(estimate.high, other.high))
        result[name] = estimate
    return result


def share(name: str, success: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"]) -> Estimate:
    """A share with the interval that the verdict's rule reads."""
    return read_by_rule(proportion(NAMES[name], success, points), points)
