"""Power of the quartile-gap test against simulated audits."""

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from override_gap.analyses.stats import power
from override_gap.analyses.stats.intervals import score_test


def test_power_without_clustering_is_near_statsmodels():
    effect = proportion_effectsize(0.65, 0.35)
    expected = NormalIndPower().power(effect, 48, 0.05, 1.0)
    assert power.gap_power(0.3, 192, 192) == pytest.approx(expected, abs=0.02)


def test_power_is_the_rate_at_which_simulated_audits_detect_the_gap():
    rng = np.random.default_rng(0)
    per, gap, icc, hits = 3, 0.35, 0.3, 0
    for _ in range(600):
        group = np.repeat([0, 1], 16)
        share = np.where(group == 0, 0.5 + gap / 2, 0.5 - gap / 2)
        scale = 1 / icc - 1
        p = rng.beta(share * scale, (1 - share) * scale)
        success = (rng.random((32, per)) < p[:, None]).ravel().astype(float)
        hits += score_test(success, np.repeat(group, per).astype(float), np.repeat(np.arange(32), per))[1] < 0.05
    assert power.gap_power(gap, 4 * 48, 4 * 16, icc=icc) == pytest.approx(hits / 600, abs=0.07)


def test_smallest_gap_inverts_power():
    gap = power.smallest_gap(194, 72)
    assert power.gap_power(gap, 194, 72) == pytest.approx(0.8, abs=1e-6)
    assert power.smallest_gap(8, 4) is None


def test_intraclass_correlation_of_simulated_clusters():
    rng = np.random.default_rng(0)
    p = rng.beta(0.5 * (1 / 0.3 - 1), 0.5 * (1 / 0.3 - 1), 4000)
    success = (rng.random((4000, 3)) < p[:, None]).ravel().astype(float)
    assert power.intraclass(success, np.repeat(np.arange(4000), 3)) == pytest.approx(0.3, abs=0.03)
