"""Calibration of the criterion and disagreement of measures, against counts and fits made another way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from override_gap.analyses import constancy, prior_gradient
from override_gap.analyses import criterion as reliability
from override_gap.analyses import measures as patterns
from override_gap.analyses.readings import truth, values
from override_gap.analyses.stats import logistic
from tests.simulate import simulate_readings


@pytest.fixture(scope="module")
def run():
    return simulate_readings(0, 40, 100, others=2, errors=2)


def test_no_bin_straddles_zero_and_every_item_is_in_one(rng):
    for size in (0, 1, 5, 30, 200):
        net = np.round(rng.normal(0.3, 2, size), 1)
        found = reliability.bins(net)
        assert sorted(np.concatenate(found) if found else []) == list(range(size))
        assert all((net[own] > 0).all() or (net[own] <= 0).all() for own in found)
        means = [net[own].mean() for own in found]
        assert means == sorted(means)
        assert sum((net[own] > 0).all() for own in found) <= reliability.BINS


def test_bins_hold_the_shares_of_their_items(run):
    rows = [row for row in reliability.calibration(run) if (row["measure"], row["population"]) == ("top1", "known")]
    under = run.select("conflict", "as-delivered", "known")
    net, said = values(under["net_margin"]), truth(under["success_top1"])
    assert sum(row["n"] for row in rows) == (~np.isnan(said)).sum()
    assert sum(row["n"] * row["value"] for row in rows) == pytest.approx(said.sum())
    for row in rows:
        inside = (net >= row["net_low"]) & (net <= row["net_high"])
        assert row["value"] == pytest.approx(said[inside].mean())
        assert row["by_size"] == pytest.approx(np.mean(1 / (1 + np.exp(-net[inside]))))
        assert row["by_sign"] == (row["net_low"] > 0)
        assert row["by_sign"] or row["value"] == 0  # a token below another is no arg max


def test_a_criterion_that_says_nothing_is_seen_to_say_nothing():
    """What is said has nothing to do with the margin: the share left of zero is as large as right of it."""
    rows = reliability.calibration(simulate_readings(0, 60, 300, fault="broken-criterion", others=2))
    rows = [row for row in rows if (row["measure"], row["population"]) == ("answer", "all")]
    left, right = ([row for row in rows if row["by_sign"] == sign] for sign in (0, 1))
    share = [np.average([row["value"] for row in side], weights=[row["n"] for row in side]) for side in (left, right)]
    assert abs(share[0] - share[1]) < 0.15


def test_patterns_and_pairs_are_counts_of_the_readings(run):
    found = patterns.disagreement(run)
    under = run.select("conflict", "as-delivered").dropna(subset=["success_margin", "success_top1", "success_answer"])
    assert sum(row["count"] for row in found["patterns"]) == len(under)
    for row in found["patterns"]:
        same = np.logical_and.reduce([under[f"success_{name}"].astype(bool) == row[name] for name in patterns.COMPARED])
        assert (row["count"], row["value"]) == (same.sum(), pytest.approx(same.mean()))
        assert row["margin"] or not row["top1"]
    pair = next(row for row in found["pairs"] if row["condition"] == "slb" and row["second"] == "top1")
    under = run.select("conflict", "slb")
    margin, top1 = under["success_margin"].astype(bool), under["success_top1"].astype(bool)
    assert pair["value"] == pytest.approx((margin != top1).mean())
    assert (pair["first_only"], pair["second_only"]) == ((margin & ~top1).sum(), 0)


def test_no_second_measure_no_section(run):
    alone = run.readings.assign(success_top1=None, success_answer=None)
    assert patterns.disagreement(type(run)(run.manifest, alone)) is None


def test_the_fitted_curve_is_statsmodels_own_prediction(rng):
    x = rng.normal(-2, 1.5, 400)
    points = np.repeat(np.arange(100), 4)
    fail = (rng.random(400) < 1 / (1 + np.exp(-x - 1))).astype(float)
    found = logistic.logit(x, 1 - fail, points)
    fit = smf.logit("fail ~ x", pd.DataFrame({"fail": fail, "x": x})).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": points}
    )
    at = np.array([own.at for own in found.curve])
    assert (at.min(), at.max()) == (x.min(), x.max())
    told = fit.get_prediction(pd.DataFrame({"x": at}))
    assert [own.value for own in found.curve] == pytest.approx(told.predicted, abs=1e-6)
    design = np.column_stack([np.ones_like(at), at])
    error = np.sqrt(np.einsum("ij,jk,ik->i", design, np.asarray(fit.cov_params()), design))
    own = np.array([[band.value, band.low] for band in found.curve])
    log_odds = np.log(own / (1 - own))
    # One quantile for the whole band: Student's for 99 degrees of freedom or, as leverage is unequal, somewhat fewer.
    quantiles = (log_odds[:, 0] - log_odds[:, 1]) / error
    assert quantiles == pytest.approx(np.full(len(at), quantiles[0]), rel=1e-3)
    assert 1.9842 <= quantiles[0] < 2.06


def test_separated_data_have_a_curve_without_a_band():
    x = np.linspace(-3, 0, 40)
    found = logistic.logit(x, (x < -1).astype(float), np.arange(40))
    heights = [own.value for own in found.curve]
    assert heights == sorted(heights)
    assert heights[0] < 0.1 < 0.9 < heights[-1]
    assert np.isnan([own.low for own in found.curve]).all()


def test_the_fitted_line_is_statsmodels_own_prediction(rng):
    x, points = rng.normal(3, 2, 120), np.repeat(np.arange(40), 3)
    y = 1 + 2 * x + rng.normal(0, 1, 120)
    found = constancy.slope("s", x, y, points)
    fit = smf.ols("y ~ x", pd.DataFrame({"x": x, "y": y})).fit(
        cov_type="cluster", cov_kwds={"groups": points}, use_t=True
    )
    told = fit.get_prediction(pd.DataFrame({"x": [own.at for own in found.line]})).summary_frame()
    assert [own.value for own in found.line] == pytest.approx(told["mean"].to_numpy(), abs=1e-9)
    quantiles = np.array([own.high - own.value for own in found.line]) / told["mean_se"].to_numpy()
    # Student's quantile for 39 degrees of freedom or, as leverage is unequal, somewhat fewer.
    assert quantiles == pytest.approx(np.full(len(quantiles), quantiles[0]), rel=1e-6)
    assert 2.0227 <= quantiles[0] < 2.12


def test_lines_and_curves_reach_the_summary_in_nats(run):
    section = constancy.margins(run)
    lines = {row["quantity"]: row["line"] for row in section["slopes"]}
    assert len(lines["prior_margin"]) == constancy.STEPS
    assert lines["push"] == []
    strength = values(run.select("conflict", "as-delivered")["prior_logprob"])
    curve = prior_gradient.prior_gradient(run).as_json()["logit"]["curve"]
    assert curve[0]["prior_logprob"] == pytest.approx(strength.min())
