"""Matched retention by hand, and on policies that are a louder adapter, a cure, or worse."""

import numpy as np
import pytest

from override_gap.analyses import equal_cost
from override_gap.analyses import matched_retention as specificity
from tests.simulate import simulate_readings

DOSE = ("base", "as-delivered", "uniform-1.25", "uniform-1.5", "uniform-2", "uniform-3")


def test_along_by_hand():
    sweep = np.array([0.0, 1.0, 2.0, 3.0])
    retention = np.array([[1.0, 0.9, 0.7, 0.8]])  # the last rise is noise: the running minimum is .7
    override = np.array([[0.0, 0.5, 0.8, 0.9]])
    at, own, outside = equal_cost.along(sweep, retention, override, np.array([0.8]))
    assert (at[0], own[0], outside[0]) == (pytest.approx(1.5), pytest.approx(0.65), False)
    at, own, outside = equal_cost.along(sweep, retention, override, np.array([0.9]))
    assert (at[0], own[0], outside[0]) == (pytest.approx(1.0), pytest.approx(0.5), False)
    at, own, outside = equal_cost.along(sweep, retention, override, np.array([0.5]))
    assert (at[0], own[0], outside[0]) == (3.0, pytest.approx(0.9), True)
    at, own, outside = equal_cost.along(sweep, retention, override, np.array([0.7]))
    assert (at[0], own[0], outside[0]) == (3.0, pytest.approx(0.9), False)


def test_a_uniform_gain_is_its_own_match():
    run = simulate_readings(0, conditions=(*DOSE, "logit-fusion-1.5"), others=200, with_layers=False)
    (found,) = equal_cost.matched(run)[equal_cost.RETENTION]
    assert found.gain == pytest.approx(1.5, abs=0.25)
    assert found.difference.value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("specificity_", "sign"), [("chosen", 1), ("worse", -1)])
def test_cure_and_harm_are_seen(specificity_, sign):
    run = simulate_readings(1, specificity=specificity_, conditions=(*DOSE, "slb"), others=240, with_layers=False)
    (found,) = equal_cost.matched(run)[equal_cost.RETENTION]
    assert np.sign(found.difference.value) == sign
    assert found.p < 0.01
    assert (found.above < 0.05) == (sign > 0)


def test_a_louder_adapter_is_seldom_called_a_cure():
    hits = 0
    for seed in range(40):
        run = simulate_readings(seed, conditions=(*DOSE, "slb"), others=120, with_layers=False)
        (found,) = equal_cost.matched(run, seed, 300)[equal_cost.RETENTION]
        hits += found.above < 0.05
    assert hits <= 6  # 5% of 40 is 2; more than 6 has probability 0.003


def test_non_inferiority_by_its_margin():
    run = simulate_readings(0, specificity="worse", conditions=(*DOSE, "slb"), others=300, with_layers=False)
    lost = specificity.non_inferior(run, "slb", "retention")
    kept = specificity.non_inferior(run, "slb", "novel")
    assert lost.difference.value < -0.05
    assert lost.p > 0.5
    assert kept.p < 0.05
    assert (kept.difference.low > -kept.margin) == (kept.p < 0.025)


def test_without_retention_there_is_no_match():
    run = simulate_readings(0, conditions=(*DOSE, "slb"), others=0, with_layers=False)
    assert specificity.matched_retention(run) is None
