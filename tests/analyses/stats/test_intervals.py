"""Intervals against other libraries' formulas, and against what they promise: coverage."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from override_gap.analyses.stats import differences, intervals


def beta_binomial(rng, points, questions, share, rho):
    """Clustered successes with intraclass correlation rho; returns success [n], point [n]."""
    extra = rng.multinomial(questions - points, np.full(points, 1 / points))
    point = np.repeat(np.arange(points), 1 + extra)
    scale = 1 / rho - 1
    p = rng.beta(share * scale, (1 - share) * scale, points)
    return (rng.random(questions) < p[point]).astype(float), point


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (33, 48), (8, 49)])
def test_wilson_is_statsmodels(k, n):
    assert intervals.wilson(k, n) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)


def test_proportion_of_unclustered_items_is_nearly_wilson(rng):
    success = (rng.random(2000) < 0.4).astype(float)
    found = intervals.proportion("", success, np.arange(2000))
    assert (found.low, found.high) == pytest.approx(intervals.wilson(success.sum(), 2000), abs=1e-3)


def test_mean_has_the_standard_error_of_statsmodels(rng):
    points = np.repeat(np.arange(20), 5)  # of equal size; others have fewer degrees of freedom
    y = rng.normal(size=100) + points * 0.1
    fit = sm.OLS(y, np.ones(100)).fit(cov_type="cluster", cov_kwds={"groups": points})
    half = stats.t.ppf(0.975, len(set(points)) - 1) * fit.bse[0]
    found = intervals.mean("", y, points)
    assert (found.low, found.high) == pytest.approx((y.mean() - half, y.mean() + half), rel=1e-9)


def test_copies_of_a_question_add_nothing(rng):
    success = (rng.random(50) < 0.3).astype(float)
    once = intervals.proportion("", success, np.arange(50))
    thrice = intervals.proportion("", np.repeat(success, 3), np.repeat(np.arange(50), 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=0.02)
    assert thrice.high - thrice.low >= once.high - once.low - 1e-9


def test_difference_of_independent_samples_is_newcombe(rng):
    a, b = (rng.random(400) < 0.7).astype(float), (rng.random(300) < 0.4).astype(float)
    found = differences.difference("", a, np.arange(400), b, np.arange(1000, 1300))
    low, high = confint_proportions_2indep(a.sum(), 400, b.sum(), 300, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-3)


def test_difference_of_the_same_items_is_almost_zero_wide(rng):
    a = (rng.random(100) < 0.5).astype(float)
    found = differences.difference("", a, np.arange(100), a, np.arange(100))
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=0.01)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_no_variation_gives_no_zero_width(outcome):
    found = intervals.proportion("", np.full(60, outcome), np.repeat(np.arange(20), 3))
    assert found.value == outcome
    assert found.high - found.low > 0.1


def test_one_point_has_a_value_and_no_interval():
    found = intervals.proportion("", [1, 0, 1, 1], ["p"] * 4)
    assert found.value == 0.75
    assert np.isnan(found.low)
    assert "one knowledge point" in found.caveats[0]


def test_unmeasured_outcomes_are_left_out():
    found = intervals.proportion("", [1, np.nan, 0, np.nan], ["a", "b", "c", "d"])
    assert (found.n, found.points, found.value) == (2, 2, 0.5)
    assert intervals.proportion("", [np.nan], ["a"]).n == 0


@pytest.mark.parametrize(("share", "rho"), [(0.5, 0.3), (0.85, 0.3), (0.95, 0.1)])
def test_clustered_proportion_covers(share, rho):
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(1000):
        found = intervals.proportion("", *beta_binomial(rng, 72, 194, share, rho))
        hits.append(found.low <= share <= found.high)
    assert 0.93 <= np.mean(hits) <= 0.98


def test_plain_wilson_would_not_cover():
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(500):
        success, _ = beta_binomial(rng, 72, 194, 0.5, 0.5)
        low, high = intervals.wilson(success.sum(), len(success))
        hits.append(low <= 0.5 <= high)
    assert np.mean(hits) < 0.90


def test_score_test_keeps_its_level_under_clustering():
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(1000):
        success, point = beta_binomial(rng, 72, 194, 0.6, 0.3)
        p_values.append(intervals.score_test(success, rng.normal(size=72)[point], point)[1])
    assert np.mean(np.array(p_values) < 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)


def test_share_test_agrees_with_the_exact_binomial_where_there_is_no_clustering():
    success = np.r_[np.ones(70), np.zeros(30)]
    above, below = intervals.share_test(success, np.arange(100), 0.6)
    assert above == pytest.approx(stats.binomtest(70, 100, 0.6, alternative="greater").pvalue, abs=0.012)
    assert above + below == pytest.approx(1)


@pytest.mark.parametrize("null", [0.3, 0.68, 0.72, 0.8])
def test_one_sided_inverts_the_interval(null):
    def interval(level):
        return intervals.wilson(70, 100, level)

    z = (0.7 - null) / np.sqrt(null * (1 - null) / 100)  # Wilson inverts this very test
    assert intervals.one_sided(interval, null) == pytest.approx(max(stats.norm.sf(z), 1e-6), abs=2e-5)


@pytest.mark.parametrize(("centre", "null", "p"), [(0.70, 0.75, 0.5), (0.9, 0.75, None), (0.4, 0.75, None)])
def test_a_union_of_intervals_that_always_holds_the_null_speaks_for_neither_side(centre, null, p):
    # Two estimates of one share, 0.8 and `centre`: at no level does the union reach less far than from one to the other.
    def interval(level):
        z = stats.norm.ppf(0.5 + level / 2)
        return min(0.8, centre) - 0.05 * z, max(0.8, centre) + 0.05 * z

    found = intervals.one_sided(interval, null)
    if p is not None:
        assert found == pytest.approx(p, abs=1e-5)
    elif centre > null:  # the nearer estimate decides
        assert found == pytest.approx(stats.norm.sf((0.8 - null) / 0.05), abs=1e-5)
    else:
        assert found == pytest.approx(0.5, abs=1e-5)
    for alpha in (0.01, 0.05, 0.2):
        low, high = interval(1 - 2 * alpha)
        assert (found < alpha) == (low > null)
        assert (found > 1 - alpha) == (high < null)
