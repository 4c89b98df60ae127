"""Statistics with weights of one against scipy; with whole weights against data written out."""

import numpy as np
import pytest
from scipy import stats

from override_gap.analyses.stats import bootstrap

ONE = np.ones((1, 80))


def average(y):
    """The weighted mean as a statistic."""
    return lambda w: w @ y / w.sum(1)


@pytest.fixture
def data(rng):
    x = np.round(rng.normal(size=80), 1)  # rounded, so that there are ties
    y = np.round(x + rng.normal(size=80), 1)
    return x, y


def test_auc_is_mann_whitney(data):
    x, y = data
    event = y > 0
    u = stats.mannwhitneyu(x[event], x[~event]).statistic / (event.sum() * (~event).sum())
    assert bootstrap.auc(x, event)(ONE)[0] == pytest.approx(u)


def test_spearman_is_scipy(data):
    assert bootstrap.spearman(*data)(ONE)[0] == pytest.approx(stats.spearmanr(*data).statistic)


def test_median_is_numpy(data):
    _, y = data
    assert bootstrap.median(y)(ONE)[0] == pytest.approx(np.median(y))


@pytest.mark.parametrize("name", ["auc", "spearman", "median"])
def test_weights_are_copies(name, data, rng):
    x, y = data
    w = rng.integers(0, 4, 80)
    many_x, many_y = np.repeat(x, w), np.repeat(y, w)
    pairs = {
        "auc": (bootstrap.auc(x, y > 0), bootstrap.auc(many_x, many_y > 0)),
        "spearman": (bootstrap.spearman(x, y), bootstrap.spearman(many_x, many_y)),
        "median": (bootstrap.median(y), bootstrap.median(many_y)),
    }
    weighted, written_out = pairs[name]
    assert weighted(w[None, :].astype(float))[0] == pytest.approx(written_out(np.ones((1, w.sum())))[0])


def test_median_may_be_infinite():
    y = np.array([1.0, np.inf, np.inf])
    assert np.isinf(bootstrap.median(y)(np.ones((1, 3)))[0])
    assert bootstrap.median(np.array([1.0, 2.0, np.inf]))(np.ones((1, 3)))[0] == 2.0


def test_draws_are_seeded_and_whole():
    def drawn(seed: int) -> np.ndarray:
        return np.vstack(list(bootstrap.bootstrap_weights(np.arange(30), 30, 50, seed)))

    assert drawn(4).shape == (50, 30)
    assert (drawn(4).sum(1) == 30).all()
    assert (drawn(4) == drawn(4)).all()
    assert (drawn(4) != drawn(5)).any()
    # the items of a point come and go together
    twice = np.vstack(list(bootstrap.bootstrap_weights(np.arange(30).repeat(2), 30, 50, 4)))
    assert (twice == drawn(4).repeat(2, axis=1)).all()


def test_blocks_of_replicates_change_nothing(monkeypatch, rng):
    y, codes = rng.normal(size=90), np.arange(90) // 3
    whole = bootstrap.bootstrap("", bootstrap.median(y), codes, replicates=50)
    monkeypatch.setattr(bootstrap, "BLOCK", 7 * 90 + 5)
    blocks = list(bootstrap.bootstrap_weights(codes, 30, 50))
    assert [len(block) for block in blocks] == [7] * 7 + [1]
    assert bootstrap.bootstrap("", bootstrap.median(y), codes, replicates=50) == whole


def test_many_clusters_are_drawn_in_another_way_with_the_same_chances(monkeypatch):
    few = np.vstack(list(bootstrap.bootstrap_weights(np.arange(30), 30, 20_000, 1)))
    monkeypatch.setattr(bootstrap, "KEPT", 0)
    many = np.vstack(list(bootstrap.bootstrap_weights(np.arange(30), 30, 20_000, 1)))
    monkeypatch.setattr(bootstrap, "BLOCK", 40)
    assert (np.vstack(list(bootstrap.bootstrap_weights(np.arange(30), 30, 20_000, 1))) == many).all()
    assert (many.sum(1) == 30).all()
    assert (many != few).any()
    # each count is binomial (30, 1/30), and counts of two clusters have covariance -1/30
    counts = np.bincount(many.astype(int).ravel(), minlength=8)[:8] / many.size
    assert counts == pytest.approx(stats.binom.pmf(np.arange(8), 30, 1 / 30), abs=0.003)
    together = np.cov(many.T)
    assert together.diagonal().mean() == pytest.approx(29 / 30, abs=0.01)
    assert together[~np.eye(30, dtype=bool)].mean() == pytest.approx(-1 / 30, abs=0.001)


def test_interval_of_a_mean_is_students(rng):
    y = rng.normal(size=40)
    found = bootstrap.bootstrap("", average(y), np.arange(40), replicates=4000)
    half = stats.t.ppf(0.975, 39) * y.std(ddof=1) / np.sqrt(40)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


def test_one_point_gives_no_interval(rng):
    found = bootstrap.bootstrap("", average(rng.normal(size=5)), np.zeros(5))
    assert np.isfinite(found.value)
    assert np.isnan(found.low)


def test_auc_interval_covers():
    rng = np.random.default_rng(1)
    truth = stats.norm.cdf(1 / np.sqrt(2))
    hits = []
    for seed in range(300):
        event = np.repeat(rng.random(50) < 0.5, 2)
        x = event + rng.normal(size=50).repeat(2) * 0.8 + 0.6 * rng.normal(size=100)  # total variance 1
        found = bootstrap.bootstrap("", bootstrap.auc(x, event), np.repeat(np.arange(50), 2), seed, 400, bounded=True)
        hits.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(hits) <= 0.985
