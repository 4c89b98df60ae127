"""Regressions against statsmodels, brute-force refits without each cluster, and simulations of known truth."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize

from override_gap.analyses.stats.regression import least_squares, logistic, within


def clustered(seed, n=240, count=40):
    rng = np.random.default_rng(seed)
    points = rng.integers(count, size=n)
    x = rng.normal(size=(n, 2)) + rng.normal(size=(count, 2))[points]
    y = x @ np.array([1.0, -0.5]) + rng.normal(size=count)[points] + rng.normal(size=n)
    return rng, points.astype(object), x, y


def test_least_squares_equals_refits_without_each_point():
    _, points, x, y = clustered(0)
    slopes = least_squares(y, x, points)
    whole = sm.OLS(y, sm.add_constant(x)).fit().params
    refits = np.array(
        [sm.OLS(y[points != p], sm.add_constant(x[points != p])).fit().params for p in dict.fromkeys(points)]
    )
    for k, slope in enumerate(slopes, 1):
        assert slope.value == pytest.approx(whole[k])
        np.testing.assert_allclose(slope.without[0], refits[:, k])
        count = len(refits)
        by_hand = np.sqrt((count - 1) / count * ((refits[:, k] - whole[k]) ** 2).sum())
        assert slope.errors[0] == (pytest.approx(by_hand), count - 1)


def test_firth_is_the_maximum_of_the_penalised_likelihood():
    rng, points, x, y = clustered(1)
    event = (rng.random(len(y)) < 1 / (1 + np.exp(-y))).astype(float)
    design = sm.add_constant(x)

    def negative(beta):
        eta = design @ beta
        mu = 1 / (1 + np.exp(-eta))
        information = design.T @ (design * (mu * (1 - mu))[:, None])
        return -(event * np.log(mu) + (1 - event) * np.log(1 - mu)).sum() - 0.5 * np.linalg.slogdet(information)[1]

    best = minimize(negative, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
    slopes = logistic(event, x, points)
    assert slopes is not None
    np.testing.assert_allclose([slope.value for slope in slopes], best[1:], atol=1e-5)


def test_separated_data_are_refused():
    x = np.arange(40.0)[:, None] - 20
    assert logistic((x[:, 0] > 0).astype(float), x, np.arange(40).astype(object)) is None


def test_the_instrument_removes_the_noise_that_least_squares_suffers():
    rng = np.random.default_rng(2)
    belief = rng.normal(size=20000)
    seen, other = belief + rng.normal(size=(2, 20000))
    outcome = 0.8 * belief + rng.normal(size=20000)
    points = np.arange(20000).astype(object)
    assert least_squares(outcome, seen[:, None], points)[0].value == pytest.approx(0.4, abs=0.03)
    assert least_squares(outcome, seen[:, None], points, other[:, None])[0].value == pytest.approx(0.8, abs=0.05)


def test_within_relations_equals_a_constant_for_each_relation():
    rng, points, x, y = clustered(3)
    relations = rng.integers(6, size=len(y))
    y = y + 3 * relations
    dummies = (relations[:, None] == np.arange(6)).astype(float)
    expected = np.linalg.lstsq(np.column_stack([x, dummies]), y, rcond=None)[0][:2]
    names = np.array([f"r{r}" for r in relations], dtype=object)
    slopes = least_squares(within(y[:, None], names)[:, 0], within(x, names), points)
    np.testing.assert_allclose([slope.value for slope in slopes], expected, rtol=1e-9)


def test_intervals_hold_the_truth_as_often_as_they_say():
    kept = {"linear": 0, "logistic": 0, "difference": 0}
    runs = 300
    for seed in range(runs):
        rng, points, x, y = clustered(100 + seed, n=150, count=30)
        first = least_squares(y, x, points)[0]
        kept["linear"] += first.estimate("b").low <= 1 <= first.estimate("b").high
        other = least_squares(y - 0.7 * x[:, 0] + rng.normal(size=len(y)), x, points)[0]
        gap = (first - other).estimate("gap")
        kept["difference"] += gap.low <= 0.7 <= gap.high
        event = (rng.random(len(y)) < 1 / (1 + np.exp(-0.8 * x[:, 0]))).astype(float)
        slopes = logistic(event, x, points)
        assert slopes is not None
        kept["logistic"] += slopes[0].estimate("b").low <= 0.8 <= slopes[0].estimate("b").high
    # 300 runs at 95% give fewer than 275 with probability below 1%.
    assert all(count >= 275 for count in kept.values()), kept
