"""Planned power against simulated audits."""

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


def test_power_is_what_simulated_audits_find():
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


def test_smallest_gap_and_fewest_questions_invert_power():
    gap = power.smallest_gap(194, 72)
    assert power.gap_power(gap, 194, 72) == pytest.approx(0.8, abs=1e-6)
    n = power.fewest_questions(gap, 194 / 72)
    assert abs(n - 194) <= 1
    assert power.smallest_gap(8, 4) is None
    assert power.fewest_questions(1e-4) is None


def test_intraclass_correlation_is_read_back():
    rng = np.random.default_rng(0)
    p = rng.beta(0.5 * (1 / 0.3 - 1), 0.5 * (1 / 0.3 - 1), 4000)
    success = (rng.random((4000, 3)) < p[:, None]).ravel().astype(float)
    assert power.intraclass(success, np.repeat(np.arange(4000), 3)) == pytest.approx(0.3, abs=0.03)
    assert "power" in str(power.plan(194, 72))
