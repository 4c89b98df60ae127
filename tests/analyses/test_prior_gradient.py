"""Quartiles, gap, logit and AUC against other routes to the same numbers."""

import doctest

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.optimize import minimize

from override_gap.analyses import paper as published
from override_gap.analyses import prior_gradient as pg
from override_gap.analyses.stats import logistic
from tests.simulate import simulate_readings


@pytest.fixture(scope="module")
def columns():
    run = simulate_readings(2, fault="growing", conditions=("base", "as-delivered"), others=0, with_layers=False)
    return pg.arrays(run.select("conflict", "as-delivered"), "top1")


def test_quartile_sizes_of_the_paper(rng):
    assert np.bincount(pg.quartile_of(rng.normal(size=194))).tolist() == [48, 49, 48, 49]


def test_equal_strengths_share_a_quartile(rng):
    strength = rng.integers(0, 9, 100).astype(float)
    group = pg.quartile_of(strength)
    for value in set(strength):
        assert len(set(group[strength == value])) == 1
    assert np.all(np.diff(group[np.argsort(strength)]) >= 0)


def test_all_tied_gives_null_and_a_note_not_a_number(rng):
    found = pg.gradient(np.zeros(60), (rng.random(60) < 0.5).astype(float), np.arange(60)).as_json()
    assert found["gap"]["value"] is None
    assert "quartiles need" in found["gap"]["note"]
    assert sum(row["value"] is not None for row in found["quartiles"]) == 1


def test_values_are_plain_shares(columns):
    strength, success, _ = columns
    found = pg.gradient(*columns)
    order = np.argsort(strength)
    assert found.quartiles[0].accuracy.value == pytest.approx(success[order[:48]].mean())
    assert found.quartiles[3].accuracy.value == pytest.approx(success[order[-49:]].mean())
    assert found.gap.value == pytest.approx(success[order[:48]].mean() - success[order[-49:]].mean())
    for row in found.quartiles:
        assert row.accuracy.low <= row.accuracy.value <= row.accuracy.high


def test_the_order_of_rows_does_not_matter(columns, rng):
    order = rng.permutation(len(columns[0]))
    one, other = pg.gradient(*columns), pg.gradient(*(column[order] for column in columns))
    assert [q.accuracy.value for q in one.quartiles] == [q.accuracy.value for q in other.quartiles]


def test_logit_coefficient_is_the_binomial_glm(columns):
    strength, success, _ = columns
    x = (strength - strength.mean()) / strength.std(ddof=1)
    fit = sm.GLM(1 - success, sm.add_constant(x), family=sm.families.Binomial()).fit()
    found = logistic.logit(*columns)
    assert found.method == "logit"
    assert found.coef == pytest.approx(fit.params[1], rel=1e-5)


def test_logit_error_is_the_jackknife_over_points(columns):
    strength, success, points = columns
    names = sorted(set(points))
    left_out = []
    for name in names:
        keep = points != name
        left_out.append(logistic.logit(strength[keep], success[keep], points[keep]).coef)
    left_out, count = np.array(left_out), len(names)
    jackknife = np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum())
    found = logistic.logit(*columns)
    error = (found.high - found.low) / 2 / stats.t.ppf(0.975, count - 1)
    assert error == pytest.approx(jackknife, rel=0.15)


def test_separated_data_are_penalised_and_finite(rng):
    strength = np.sort(rng.normal(size=60))
    success = (np.arange(60) < 30).astype(float)
    found = logistic.logit(strength, success, np.arange(60))
    assert found.method == "penalised"
    assert "separates" in found.note
    assert 0 < found.low < found.coef < 100
    assert np.isfinite(found.high) or "no upper limit" in found.note
    assert found.p < 0.001


def test_firth_is_the_maximum_of_the_penalised_likelihood(rng):
    x = rng.normal(size=40)
    fail = (x + rng.normal(size=40) > 0).astype(float)
    design = np.column_stack([np.ones(40), x])

    def loss(beta):
        eta = design @ beta
        mu = 1 / (1 + np.exp(-eta))
        information = design.T @ (design * (mu * (1 - mu))[:, None])
        return -(fail @ eta - np.log1p(np.exp(eta)).sum() + 0.5 * np.log(np.linalg.det(information)))

    best = minimize(loss, [0, 0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
    (_, slope), value = logistic.firth(x, fail)
    assert slope == pytest.approx(best.x[1], abs=1e-5)
    assert value == pytest.approx(-best.fun, abs=1e-8)


@pytest.mark.parametrize(("success", "reason"), [(np.ones(40), "no item fails"), (np.zeros(40), "every item fails")])
def test_one_sided_outcomes_have_no_regression(success, reason, rng):
    found = logistic.logit(rng.normal(size=40), success, np.arange(40))
    assert (found.method, found.note) == ("none", reason)
    assert pg.auc(rng.normal(size=40), success, np.arange(40)).caveats == (reason,)
    gap = pg.gradient(rng.normal(size=40), success, np.arange(40))
    assert gap.gap.value == 0
    assert gap.gap.low < 0 < gap.gap.high
    assert gap.p == pytest.approx(1, abs=1e-5)


def test_known_truth_is_covered():
    world = simulate_readings(
        99, 20000, 53889, "growing", conditions=("base", "as-delivered"), others=0, with_layers=False
    )
    strength, success, _ = pg.arrays(world.select("conflict", "as-delivered"), "top1")
    group = pg.quartile_of(strength)
    truth = [success[group == k].mean() for k in range(4)]
    hits = []
    for seed in range(120):
        run = simulate_readings(seed, fault="growing", conditions=("as-delivered",), others=0, with_layers=False)
        found = pg.gradient(*pg.arrays(run.select("conflict", "as-delivered"), "top1"), seed=seed)
        row = [q.accuracy.low <= t <= q.accuracy.high for q, t in zip(found.quartiles, truth, strict=True)]
        hits.append([*row, found.gap.low <= truth[0] - truth[3] <= found.gap.high])
    assert (np.mean(hits, axis=0) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 120)).all()


def test_no_gradient_is_found_where_there_is_none():
    p_values = []
    for seed in range(200):
        run = simulate_readings(seed, fault="flat", conditions=("as-delivered",), others=0, with_layers=False)
        strength, success, points = pg.arrays(run.select("conflict", "as-delivered"), "top1")
        p_values.append(pg.gradient(strength, success, points).p)
    assert np.mean(np.array(p_values) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_the_papers_gap():
    found = published.paper_gap()
    assert found.value == pytest.approx(0.52)
    assert 0.30 < found.low < 0.40
    assert 0.60 < found.high < 0.70
    assert published.gap_test(published.PAPER_WEAKEST, published.PAPER_STRONGEST) < 1e-6
    clustered = published.paper_gap(design_effect=1.5)
    assert clustered.low < found.low
    assert clustered.high > found.high
    assert not any(round(100 * k / n) == 68 for n in (48, 49) for k in range(n + 1))


def test_the_docs_print_what_the_code_gives():
    found = doctest.testmod(published)
    assert (found.attempted, found.failed) == (1, 0)
