"""Two levels of clustering: labels that carry both, corrections against brute force, likelihood and sign flips by hand."""

import pickle
from itertools import product
from math import comb

import numpy as np
import pytest
from scipy import integrate, stats

from override_gap.analyses.compare.conditions import paired
from override_gap.analyses.stats import beta_binomial, effective, intervals
from override_gap.analyses.stats.clusters import Point, crossed, higher_names, labelled, levels, only_cluster
from override_gap.analyses.stats.paired import paired_at


def names(prefix, numbers):
    return np.array([f"{prefix}{number}" for number in numbers], dtype=object)


def test_labels_carry_both_levels_through_selection_and_joining():
    points = labelled(names("p", [0, 0, 1, 2, 3]), np.array(["a", "a", "a", "b", None], dtype=object))
    part = np.concatenate([points[1:], points[:1]])
    by_point, by_relation = levels(part)
    assert (by_point.count, by_relation.count) == (4, 3)  # p3, without a relation, is a cluster by itself
    assert by_relation.codes.tolist() == [0, 0, 1, 2, 0]
    assert pickle.loads(pickle.dumps(points[0])).cluster == points[0].cluster


def test_clusters_are_told_apart_by_text_before_any_nul():
    """pandas before 3.1 takes names that are equal up to a NUL for one: all relations would be one cluster."""
    points = labelled(names("p", range(4)), np.array(["a", "b", "b", None], dtype=object))
    found = {str(name).partition("\0")[0] for name in higher_names(points)}
    assert len(found) == 3


def test_without_relations_or_with_one_of_them_there_is_one_level():
    points = names("p", [0, 1, 2])
    assert labelled(points, np.array([None, None, None], dtype=object)) is points
    assert len(levels(points)) == 1
    single = labelled(points, np.array(["a", "a", "a"], dtype=object))
    assert len(levels(single)) == 1
    assert only_cluster(single) == "a"
    assert "(a)" in intervals.proportion("s", [1, 0, 1], single).caveats[0]
    each_its_own = labelled(points, names("r", [0, 1, 2]))
    assert len(levels(each_its_own)) == 1
    assert only_cluster(each_its_own) is None


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_the_correction_is_that_of_the_whole_covariance(rng, rho):
    sizes = rng.integers(1, 12, 9)
    codes = np.repeat(np.arange(9), sizes)
    x = rng.normal(size=len(codes))
    design, contrast = np.column_stack([np.ones_like(x), x]), np.array([0.0, 1.0])
    covariance = (1 - rho) * np.eye(len(x)) + rho * (codes[:, None] == codes[None, :])
    weights = contrast @ np.linalg.inv(design.T @ design) @ design.T
    residual_maker = np.eye(len(x)) - design @ np.linalg.inv(design.T @ design) @ design.T
    terms = np.array([(weights * (codes == g)) @ residual_maker for g in range(9)])
    m = terms @ covariance @ terms.T
    found = effective.of_regression(design, np.ones_like(x), contrast, codes, 9, rho)
    assert found.scale == pytest.approx(weights @ covariance @ weights / np.trace(m))
    assert found.df == pytest.approx(np.trace(m) ** 2 / np.trace(m @ m))


def test_equal_clusters_keep_their_degrees_of_freedom_and_one_large_cluster_takes_nearly_all():
    equal = effective.of_mean(np.full(15, 8), 0.4)
    assert (equal.df, equal.scale) == (pytest.approx(14), pytest.approx(15 / 14))
    assert effective.of_mean(np.array([200, *[2] * 14]), 0.4).df < 3


def test_the_likelihood_is_the_integral_over_each_clusters_own_share():
    x, m = np.array([3.0, 0.0, 4.0]), np.array([5.0, 2.0, 4.0])

    def by_integration(p):
        best = -np.inf
        for rho in beta_binomial.RHO[3:]:
            law = stats.beta(p * (1 / rho - 1), (1 - p) * (1 / rho - 1))
            parts = [
                integrate.quad(lambda t, k=k, n=n, law=law: t**k * (1 - t) ** (n - k) * law.pdf(t), 0, 1)[0]
                for k, n in zip(x, m, strict=True)
            ]
            best = max(best, float(np.log(parts).sum()))
        return best

    at = beta_binomial.profile(x, m)
    low, high = at(np.log(np.array([0.4 / 0.6, 0.7 / 0.3])))
    assert low - high == pytest.approx(by_integration(0.4) - by_integration(0.7), abs=1e-3)


def test_eight_relations_that_all_succeed_say_less_than_sixty_questions_and_more_than_eight():
    codes = np.repeat(np.arange(8), 8)[:60]
    low, high = beta_binomial.limits(np.ones(60), codes, 8, 0.95)
    assert high == 1
    assert intervals.wilson(8, 8)[0] < low < intervals.wilson(60, 60)[0]
    above, below = beta_binomial.share_test(np.ones(60), codes, 8, low)
    assert above == pytest.approx(0.025, abs=1e-3)  # the interval inverts the test
    assert above + below == pytest.approx(1)


def test_all_right_over_few_relations_is_bounded_by_the_probability_of_that():
    # Two questions of a relation whose share is Beta(p, 1 - p), correlation 1/2: both are right with probability p (p + 1) / 2.
    codes = np.repeat(np.arange(4), 2)
    low, high = beta_binomial.limits(np.ones(8), codes, 4, 0.95)
    assert high == 1
    assert (low * (low + 1) / 2) ** 4 == pytest.approx(0.025, abs=1e-5)
    above, below = beta_binomial.share_test(np.ones(8), codes, 4, low)
    assert (above, below) == (pytest.approx(0.025, abs=1e-5), pytest.approx(0.975, abs=1e-5))
    none = beta_binomial.limits(np.zeros(8), codes, 4, 0.95)
    assert none == (0, pytest.approx(1 - low, abs=1e-6))
    assert beta_binomial.share_test(np.zeros(8), codes, 4, 1 - low)[1] == pytest.approx(0.025, abs=1e-5)
    rng = np.random.default_rng(2)  # the share that is just excluded gives eight right answers in 2.5% of draws
    share = rng.beta(low, 1 - low, (40_000, 4))
    assert (rng.binomial(2, share) == 2).all(1).mean() == pytest.approx(0.025, abs=0.003)


def test_a_share_that_differs_with_the_size_of_relations_is_covered():
    # Of 20 relations half have 2 questions at 90% and half 60 at 40%: of all questions (2 * 0.9 + 60 * 0.4) / 62 succeed.
    rng = np.random.default_rng(8)
    true, sizes = (2 * 0.9 + 60 * 0.4) / 62, np.repeat([2, 60], 10)
    codes = np.repeat(np.arange(20), sizes)
    covered, of_relations, tests = [], [], []
    for _ in range(120):
        own = np.r_[rng.beta(9, 1, 10), rng.beta(4, 6, 10)]
        success = (rng.random(len(codes)) < own[codes]).astype(float)
        low, high = beta_binomial.limits(success, codes, 20, 0.95)
        covered.append(low <= true <= high)
        assert low <= success.mean() <= high
        centre, _ = beta_binomial.peak(beta_binomial.profile(np.bincount(codes, weights=success), sizes.astype(float)))
        of_relations.append(1 / (1 + np.exp(-centre)))
        tests.append(min(beta_binomial.share_test(success, codes, 20, true)))
    assert np.mean(of_relations) > true + 0.07  # what the likelihood alone would speak of
    assert np.mean(covered) >= 0.93
    assert [p < 0.025 for p in tests] == [not inside for inside in covered]  # one test


def test_points_that_cross_relations_are_allowed_for_on_both_sides():
    rng = np.random.default_rng(5)
    point, relation = (part.ravel() for part in np.indices((15, 15)))
    points = labelled(names("p", point), names("r", relation))
    assert [level.count for level in crossed(points)] == [15, 15, 225]
    assert len(crossed(labelled(names("p", point * 15 + relation), names("r", relation)))) == 2  # nested
    both, wider, shares = [], [], []
    for _ in range(200):
        y = rng.normal(size=15)[point] + rng.normal(size=15)[relation] + rng.normal(size=225)
        found = intervals.mean("", y, points)
        low, high = intervals.widest([found.by_point, found.by_cluster])
        both.append(found.low <= 0 <= found.high)
        wider.append(low <= 0 <= high)
        share = intervals.proportion("", (y > 0).astype(float), points)
        shares.append(share.low <= 0.5 <= share.high)
    assert np.mean(both) >= 0.93
    assert np.mean(shares) >= 0.92
    assert np.mean(wider) <= 0.9
    # by hand: (sum over points^2 + sum over relations^2 - sum of squares) of centred values, each with its own factor and t
    centred = y - y.mean()
    by_point, by_relation = (np.bincount(codes, weights=centred) for codes in (point, relation))
    squares = [stats.t.ppf(0.975, 14) ** 2 * 15 / 14 * (sums**2).sum() for sums in (by_point, by_relation)]
    squares.append(stats.t.ppf(0.975, 224) ** 2 * 225 / 224 * (centred**2).sum())
    assert found.high - found.value == pytest.approx(np.sqrt(squares[0] + squares[1] - squares[2]) / 225, rel=1e-3)


def test_shares_of_alike_relations_are_covered_where_clustering_by_point_does_not():
    rng = np.random.default_rng(4)
    by_point, read = [], []
    for _ in range(150):
        sizes = 1 + rng.multinomial(185, np.full(15, 1 / 15))
        relation = np.repeat(np.arange(15), sizes)
        success = (rng.random(200) < rng.beta(0.7, 0.3, 15)[relation]).astype(float)  # intraclass correlation 1/2
        found = intervals.proportion("s", success, labelled(names("p", range(200)), names("r", relation)))
        by_point.append(found.by_point[0] <= 0.7 <= found.by_point[1])
        read.append(found.low <= 0.7 <= found.high)
        assert (found.low, found.high) == (
            min(found.by_point[0], found.by_cluster[0]),
            max(found.by_point[1], found.by_cluster[1]),
        )
    assert np.mean(by_point) < 0.6
    assert np.mean(read) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 150)


def test_sign_flips_and_their_interval_by_enumeration():
    sums, sizes = np.array([3.0, 1.0, -1.0, 2.0, 2.0, 1.0, 4.0]), np.array([4, 2, 3, 2, 5, 1, 6])
    level = levels(np.repeat(np.arange(7), sizes))[0]
    gap = np.concatenate([np.full(m, s / m) for s, m in zip(sums, sizes, strict=True)])

    def p_of(shift):
        moved = sums - shift * sizes
        flips = [abs(np.dot(signs, moved)) >= abs(moved.sum()) - 1e-9 for signs in product((-1, 1), repeat=7)]
        return np.mean(flips)

    found = paired_at(gap, level)
    assert found.p == pytest.approx(p_of(0.0))
    for limit, outward in ((found.low, -1), (found.high, 1)):
        assert p_of(limit - outward * 1e-6) >= 0.05
        assert p_of(limit + outward * 1e-6) < 0.05


@pytest.mark.parametrize("count", [8, 20, 50])
def test_p_is_below_5_per_cent_exactly_if_the_interval_excludes_zero(count):
    rng = np.random.default_rng(count)
    decided = 0
    for _ in range(80):
        points = rng.integers(0, count, 4 * count)
        lean = rng.uniform(0, 0.5)
        first = (rng.random(len(points)) < 0.4 + lean).astype(float)
        second = (rng.random(len(points)) < 0.4).astype(float)
        labels = labelled(names("p", points), names("r", points % max(3, count // 3)))
        found = paired(first, second, labels, ("a", "b"), "conflict", "top1")
        assert (found.p < 0.05) == (not found.difference.low <= 0 <= found.difference.high)
        decided += found.p < 0.05
    assert count == 8 or 0 < decided < 80


def test_few_clusters_that_differ_give_no_certainty():
    first, second = np.r_[1.0, np.zeros(39)], np.zeros(40)
    found = paired(first, second, np.arange(40), ("a", "b"), "conflict", "top1")
    assert found.p == 1
    assert found.difference.low < 0 < found.difference.high
    assert comb(40, 1) * found.difference.value == 1


def test_a_point_is_its_name():
    assert Point("p", "r") == "p"
    assert len({Point("p", "r"), Point("p", "s"), "p"}) == 1


def test_points_that_are_missing_or_numbers_are_points_of_their_own():
    points = np.array([None, "a", "b", float("nan"), 1, "1"], dtype=object)
    names = np.array(["x", "x", "x", None, None, "y"], dtype=object)
    found = labelled(points, names)
    assert list(found) == ["None", "a", "b", "nan", "1", "1"]
    assert [label.cluster for label in found] == [
        "relation x", "relation x", "relation x", "point nan", "point 1", "relation y",
    ]  # fmt: skip
    assert list(labelled(np.array([None, None], dtype=object), np.array(["x", "x"], dtype=object))) == ["None", "None"]
