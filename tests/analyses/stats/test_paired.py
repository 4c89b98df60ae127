"""Paired tests against McNemar's, Holm against his worked steps, level under clustering."""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from override_gap.analyses.stats.paired import holm, paired_test


@pytest.mark.parametrize(("gained", "lost"), [(9, 1), (5, 5), (0, 6), (12, 0)])
def test_few_single_question_points_are_the_exact_mcnemar(gained, lost):
    gap = np.r_[np.ones(gained), -np.ones(lost), np.zeros(20)]
    exact = mcnemar([[20, gained], [lost, 0]], exact=True).pvalue
    assert paired_test(gap, np.arange(len(gap))) == pytest.approx(exact, abs=0.01)


def test_many_single_question_points_are_mcnemar_without_correction():
    gap = np.r_[np.ones(60), -np.ones(35)]
    table = mcnemar([[0, 60], [35, 0]], exact=False, correction=False)
    assert paired_test(gap, np.arange(95)) == pytest.approx(table.pvalue)


def test_no_discordance_is_no_evidence():
    assert paired_test(np.zeros(10), np.arange(10)) == 1.0


def test_questions_of_one_point_count_once():
    gap = np.ones(12)
    assert paired_test(gap, np.repeat(np.arange(3), 4)) == 0.25
    assert paired_test(gap, np.arange(12)) == pytest.approx(2 / 2**12)


def test_level_under_clustering():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        tilt = rng.normal(size=60)[np.repeat(np.arange(60), 3)]
        gap = np.sign(tilt + 0.5 * rng.normal(size=180)) * (rng.random(180) < 0.4)
        hits += paired_test(gap, np.repeat(np.arange(60), 3)) < 0.05
    assert hits / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    adjusted = holm([0.02, float("nan"), 0.03])
    assert adjusted[0] == pytest.approx(0.04)
    assert np.isnan(adjusted[1])
