"""Paired tests against McNemar's, Holm against his worked steps, level under clustering."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from override_gap.analyses.compare import conditions as comparison
from tests.simulate import simulate_readings


@pytest.mark.parametrize(("gained", "lost"), [(9, 1), (5, 5), (0, 6), (12, 0)])
def test_few_single_question_points_are_the_exact_mcnemar(gained, lost):
    gap = np.r_[np.ones(gained), -np.ones(lost), np.zeros(20)]
    exact = mcnemar([[20, gained], [lost, 0]], exact=True).pvalue
    assert comparison.paired_test(gap, np.arange(len(gap))) == pytest.approx(
        exact, abs=0.01 if gained + lost <= 12 else 0
    )


def test_many_single_question_points_are_mcnemar_without_correction():
    gap = np.r_[np.ones(60), -np.ones(35)]
    table = mcnemar([[0, 60], [35, 0]], exact=False, correction=False)
    assert comparison.paired_test(gap, np.arange(95)) == pytest.approx(table.pvalue)


def test_no_discordance_is_no_evidence():
    assert comparison.paired_test(np.zeros(10), np.arange(10)) == 1.0


def test_questions_of_one_point_count_once():
    gap = np.ones(12)
    assert comparison.paired_test(gap, np.repeat(np.arange(3), 4)) == 0.25
    assert comparison.paired_test(gap, np.arange(12)) == pytest.approx(2 / 2**12)


def test_level_under_clustering():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        tilt = rng.normal(size=60)[np.repeat(np.arange(60), 3)]
        gap = np.sign(tilt + 0.5 * rng.normal(size=180)) * (rng.random(180) < 0.4)
        hits += comparison.paired_test(gap, np.repeat(np.arange(60), 3)) < 0.05
    assert hits / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_holm_by_hand():
    assert comparison.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    adjusted = comparison.holm([0.02, float("nan"), 0.03])
    assert adjusted[0] == pytest.approx(0.04)
    assert np.isnan(adjusted[1])


def test_runs_are_paired_on_the_items_both_measured():
    settings = {"conditions": ("base", "as-delivered"), "others": 0, "with_layers": False}
    weak, strong = simulate_readings(1, **settings, errors=4), simulate_readings(1, fault="no-failure", **settings)
    found = comparison.runs(strong, weak, names=("strong", "weak"))
    assert found.difference.n == 190
    assert found.difference.low > 0
    a = strong.select("conflict", "as-delivered").set_index("item")["success_top1"]
    b = weak.select("conflict", "as-delivered").set_index("item")["success_top1"]
    both = a.index.intersection(b.index)
    assert found.difference.value == pytest.approx(a[both].astype(float).mean() - b[both].astype(float).mean())
    assert stats.binomtest(found.gained, found.gained + found.lost).pvalue < 1e-6
