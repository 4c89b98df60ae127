"""Paired tests against McNemar's, Holm against his worked steps, level under clustering."""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from override_gap.analyses.compare.conditions import holm_rows, paired
from override_gap.analyses.stats.clusters import labelled, levels
from override_gap.analyses.stats.paired import holm, paired_at, paired_test


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


def outcomes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Successes of two methods on the same items, and their points: few or many, equal or not, in relations or not."""
    size = int(rng.choice([1, 2, 3, 5, 6, 7, 8, 12, 13, 20, 31, 60, 194]))
    count = max(1, size // int(rng.choice([1, 1, 2, 3, 10])))
    weights = rng.dirichlet(np.full(count, rng.choice([0.3, 5.0])))
    codes = rng.choice(count, size=size, p=weights)
    points = np.array([f"p{code}" for code in codes], object)
    if rng.random() < 0.5:
        relation = rng.integers(rng.integers(1, 12), size=count)
        points = labelled(points, np.array([f"r{relation[code]}" for code in codes], object))
    first = rng.random(size) < rng.random()
    other = rng.random(size) < rng.random()
    second = np.where(rng.random(size) < rng.choice([0.0, 0.3, 0.9, 1.0]), first, other)
    return first.astype(float), second.astype(float), points


def test_the_interval_excludes_nought_exactly_where_p_is_below_one_in_twenty():
    """Ties, no discordant pair, one cluster, small samples, unequal clusters, two clusterings."""
    rng, seen = np.random.default_rng(0), {"apart": 0, "not": 0, "none": 0, "equal": 0}
    for _ in range(160):
        first, second, points = outcomes(rng)
        found = paired(first, second, points, ("a", "b"), "conflict", "top1")
        low, high = found.difference.low, found.difference.high
        seen["equal"] += bool((first == second).all())
        if np.isnan(found.p):
            assert np.isnan([low, high]).all()
            assert len(set(points)) == 1
            seen["none"] += 1
            continue
        assert -1 <= low <= found.difference.value <= high <= 1
        assert (low > 0 or high < 0) == (found.p < 0.05), (found, first, second, points)
        seen["apart" if found.p < 0.05 else "not"] += 1
    assert min(seen.values()) >= 8, seen


def test_at_every_coverage_the_interval_inverts_the_same_test():
    rng, apart = np.random.default_rng(1), 0
    for _ in range(60):
        first, second, points = outcomes(rng)
        for level in levels(points):
            usual = paired_at(first - second, level)
            for coverage in (0.8, 0.99, 0.9999, 0.99999):
                found = paired_at(first - second, level, coverage)
                assert found.p == usual.p
                assert (found.low > 0 or found.high < 0) == (found.p < 1 - coverage - 1e-10)
                apart += found.p < 1 - coverage
                wide, narrow = (found, usual) if coverage > 0.95 else (usual, found)
                assert wide.low <= narrow.low + 1e-12
                assert wide.high >= narrow.high - 1e-12
    assert apart > 8


def test_few_equal_clusters_at_a_high_coverage_have_an_interval_on_one_side():
    """There the statistic of 35 clusters, one of them large, does not fall again on the far side of the estimate."""
    codes = np.r_[np.zeros(14), np.arange(1, 36)].astype(int)
    gap = np.r_[np.zeros(14), np.ones(35)]
    level = levels(codes)[0]
    for sign in (1, -1):
        found = paired_at(sign * gap, level, 0.9999)
        assert found.p < 1e-4
        assert (found.low > 0, found.high < 0) == (sign > 0, sign < 0)
        assert np.isinf([found.low, found.high]).sum() == 1


def test_an_interval_for_several_pairs_excludes_nought_exactly_where_holms_p_is_small():
    rng, split = np.random.default_rng(2), 0
    for _ in range(10):
        points = np.array([f"p{code}" for code in np.repeat(np.arange(30), 3)], object)
        base = rng.random(90) < 0.5
        success = [
            np.where(rng.random(90) < rng.random() / 2, rng.random(90) < 0.8, base).astype(float) for _ in range(4)
        ]
        pairs = [(a, b) for a in range(4) for b in range(a)]

        def again(number: int, coverage: float, pairs=pairs, success=success, points=points):
            a, b = pairs[number]
            return paired(success[a], success[b], points, ("a", "b"), "conflict", "top1", coverage)

        for row in holm_rows([again(number, 0.95) for number in range(len(pairs))], again):
            low, high = row["low_holm"], row["high_holm"]
            assert (low > 0 or high < 0) == (row["p_holm"] < 0.05)
            assert low <= row["difference"]["low"]
            assert high >= row["difference"]["high"]
            split += row["p"] < 0.05 <= row["p_holm"]
    assert split > 2
