"""Slopes against numpy, constancy against simulations on either side of its bound."""

import numpy as np
import pytest

from override_gap.analyses import constancy
from tests.simulate import simulate_readings


def clustered(rng, slope, points=72, per=3):
    """Log frequency, prior margin (slope 1.3) and adapter margin of the given slope."""
    point = np.repeat(np.arange(points), per)
    x = rng.uniform(0, 7, points)[point]

    def noise():
        return rng.normal(0, 0.6, points)[point] + rng.normal(0, 0.8, len(point))

    return x, -1 + 1.3 * x + noise(), 4 + slope * x + noise(), point


def test_slope_is_least_squares(rng):
    x, y, _, point = clustered(rng, 0)
    found = constancy.slope("", x, y, point)
    assert found.estimate.value == pytest.approx(np.polyfit(x, y, 1)[0])
    assert found.estimate.low < 1.3 < found.estimate.high


def test_constant_and_growing_margins_are_told_apart(rng):
    assert constancy.equivalence(*clustered(rng, 0.0)).p < 0.01
    growing = constancy.equivalence(*clustered(rng, 1.0))
    assert growing.p > 0.9
    assert growing.against < 0.01


@pytest.mark.parametrize("sign", [-1, 1])
def test_equivalence_keeps_its_level_at_the_bound(sign):
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        x, prior, adapter, point = clustered(rng, sign * constancy.BOUND * 1.3, per=2)
        above = constancy.slope("", x, adapter - constancy.BOUND * prior, point)
        below = constancy.slope("", x, adapter + constancy.BOUND * prior, point)
        hits += max(1 - above.rising, below.rising) < 0.05
    assert hits / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_moments_by_hand():
    found = constancy.moments(np.array([1.0, 2, 3, np.nan, 4]), np.array(list("abcde")))
    assert found == {"mean": 2.5, "sd": pytest.approx(1.2909944), "cv": pytest.approx(0.5163978), "n": 4, "points": 4}
    assert constancy.moments(np.array([-1.0, 1, -1, 1]), np.arange(4))["cv"] is None


def test_without_frequency_only_prior_strength_is_an_axis():
    run = simulate_readings(0, frequency=False, conditions=("base", "as-delivered"), others=0, with_layers=False)
    found = constancy.margins(run)
    assert {row["axis"] for row in found["slopes"]} == {"prior_logprob"}
    assert found["equivalence"] is None
    assert "base's two logits" in found["correlation"]["note"]


def test_push_minus_pull_is_the_adapter_margin():
    run = simulate_readings(0, conditions=("base", "as-delivered"), others=0, with_layers=False)
    found = constancy.margins(run)
    assert found["push"]["mean"] - found["pull"]["mean"] == pytest.approx(found["adapter"]["mean"])
    slopes = {(row["quantity"], row["axis"]): row["value"] for row in found["slopes"]}
    axis = "log_frequency"
    assert slopes["push", axis] - slopes["pull", axis] == pytest.approx(slopes["adapter_margin", axis])
