"""The score test of no association between an outcome and a predictor, clustered."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from override_gap.analyses.stats import effective
from override_gap.analyses.stats.clusters import Level, clusters, levels


def score_test(
    outcome: Float[np.ndarray, " n"], predictor: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"]
) -> tuple[float, float]:
    """Score test of no association, clustered by points and by relations; returns (t, two-sided p) of the larger p.

    U = sum (x - mean x)(y - mean y); t = U / sqrt(c sum_g U_g^2), c and the degrees of freedom by `effective`. Variance is
    taken under the null, so perfect separation gives a finite t; no variation gives t = 0, p = 1.
    """
    if clusters(points)[1] < 2 or len(outcome) < 2:
        return float("nan"), float("nan")
    return max((score_at(outcome, predictor, level) for level in levels(points)), key=lambda found: found[1])


def score_at(outcome: Float[np.ndarray, " n"], predictor: Float[np.ndarray, " n"], level: Level) -> tuple[float, float]:
    """`score_test` at one clustering."""
    x, y = predictor - predictor.mean(), outcome - outcome.mean()
    sums = np.bincount(level.codes, weights=x * y, minlength=level.count)
    design = np.column_stack([np.ones_like(x), x])
    rho = effective.intraclass(y, level.codes, level.count)
    inside = effective.cluster_products(design, design, level.codes, level.count)
    totals = effective.cluster_sums(design, level.codes, level.count)
    omega = (1 - rho) * inside + rho * totals[:, :, None] * totals[:, None, :]
    taken = np.column_stack([totals[:, 1] / len(x), np.zeros(level.count)])
    shared = effective.correction(np.array([0.0, 1.0]), taken, omega)
    spread = float(np.sqrt(shared.scale * (sums**2).sum()))
    if spread < 1e-12:
        return 0.0, 1.0
    t = float(sums.sum()) / spread
    return t, float(2 * stats.t.sf(abs(t), shared.df))
