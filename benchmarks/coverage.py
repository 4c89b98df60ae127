"""How often 95% intervals contain the truth, over simulated audits of 194 questions on 72 knowledge points.

The truth of each estimate is read from one simulated audit of very many points, where its sampling error is small.

    python benchmarks/coverage.py [AUDITS] > docs/calibration/coverage.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from override_gap.analyses.calibration import markdown
from override_gap.analyses.constancy import slope
from override_gap.analyses.prior_gradient import auc, gradient
from override_gap.analyses.readings import DELIVERED, RunFrame, truth, values
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import proportion, wilson
from tests.simulate import simulate_readings

LARGE = 12_000
CONDITIONS = ("base", DELIVERED)


def conflict_columns(run: RunFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Prior strength, success, points, log frequency and prior margin of the conflicts as delivered."""
    rows = run.select("conflict", DELIVERED)
    return (
        values(rows["prior_logprob"]),
        truth(rows["success_top1"]),
        rows["point"].to_numpy(dtype=object),
        np.log(values(rows["frequency"])),
        values(rows["prior_margin"]),
    )


def accuracy(run: RunFrame) -> Estimate:
    """Share of successes as delivered."""
    _, success, points, _, _ = conflict_columns(run)
    return proportion("accuracy", success, points)


def quartile_gap(run: RunFrame) -> Estimate:
    """Success in the weakest quartile of prior strength minus that in the strongest."""
    strength, success, points, _, _ = conflict_columns(run)
    return gradient(strength, success, points, DELIVERED, "top1", "all").gap


def area(run: RunFrame) -> Estimate:
    """AUC of failure on prior strength."""
    strength, success, points, _, _ = conflict_columns(run)
    return auc(strength, success, points)


def frequency_slope(run: RunFrame) -> Estimate:
    """Slope of the prior margin on log frequency."""
    _, _, points, frequency, margin = conflict_columns(run)
    return slope("slope", frequency, margin, points).estimate


ESTIMATES: dict[str, Callable[[RunFrame], Estimate]] = {
    "accuracy as delivered": accuracy,
    "quartile gap": quartile_gap,
    "AUC of failure": area,
    "slope of prior margin on log frequency": frequency_slope,
}


def audit(seed: int, points: int = 72, questions: int = 194) -> RunFrame:
    """One simulated audit, conflicts only."""
    return simulate_readings(seed, points, questions, conditions=CONDITIONS, others=0, with_layers=False)


def main(audits: int = 1000) -> None:
    """Print the coverage table."""
    import pandas as pd

    large = audit(10**6, LARGE, LARGE * 194 // 72)
    strength, success, _, _, _ = conflict_columns(large)
    true_values = {
        "accuracy as delivered": float(success.mean()),
        "quartile gap": _gap(strength, success),
        "AUC of failure": _area(strength, success),
        "slope of prior margin on log frequency": frequency_slope(large).value,
    }
    covered = dict.fromkeys(ESTIMATES, 0)
    width = dict.fromkeys(ESTIMATES, 0.0)
    for seed in range(audits):
        run = audit(seed)
        for name, estimate in ESTIMATES.items():
            estimated = estimate(run)
            covered[name] += estimated.low <= true_values[name] <= estimated.high
            width[name] += (estimated.high - estimated.low) / audits
        if seed % 50 == 49:
            print(f"{seed + 1} of {audits}", file=sys.stderr, flush=True)
    rows = []
    for name in ESTIMATES:
        low, high = wilson(covered[name], audits)
        row = {"estimate": name, "truth": true_values[name], "mean width": width[name]}
        rows.append({**row, "coverage": covered[name] / audits, "low": low, "high": high, "audits": audits})
    print(markdown(pd.DataFrame(rows)))


def _gap(strength: np.ndarray, success: np.ndarray) -> float:
    cuts = np.quantile(strength, [0.25, 0.75])
    return float(success[strength <= cuts[0]].mean() - success[strength > cuts[1]].mean())


def _area(strength: np.ndarray, success: np.ndarray) -> float:
    failed, succeeded = strength[success == 0], np.sort(strength[success == 1])
    below = np.searchsorted(succeeded, failed, "left") + np.searchsorted(succeeded, failed, "right")
    return float(below.mean() / (2 * len(succeeded)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
