"""Policies over the range of costs, against closed forms: items flip at gains of a known distribution."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.policies_range import most_override, over_costs, strengths
from benchmarks.policies_tables import Compared, with_oracle
from override_gap.analyses.equal_cost import KL, RETENTION
from override_gap.analyses.readings import RunFrame
from tests.analyses.test_equal_cost import FLIPS, SWEEP, run_of

LADDER = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)


def run_with(seed: int, spared: float) -> RunFrame:
    """A policy whose strength is its gain on conflicts, and `spared` times that on unrelated questions."""
    ladder = {f"effect-gated-{gain:g}": (gain, spared * gain) for gain in LADDER}
    other = {"uniform-0.75": (0.75, 0.75), "effect-gated-1.5-2": (9.0, 9.0)}
    return run_of(np.random.default_rng(seed), {**ladder, **other}, conflicts=600, others=600)


def test_a_policy_that_spends_half_on_unrelated_questions_is_worth_twice_the_gain() -> None:
    run = run_with(0, spared=0.5)
    assert list(strengths(run, "effect-gated")) == [0.0, *LADDER], "other settings are no strength"
    found = over_costs(run, "effect-gated")
    for cost in (RETENTION, KL):
        assert set(found[cost]) == {0.75, *SWEEP.values()} - {0.0}
    for gain, ahead in found[KL].items():
        truth = FLIPS.cdf(2 * gain) - FLIPS.cdf(gain)
        assert ahead.low - 0.01 <= truth <= ahead.high + 0.01
        assert ahead.value == pytest.approx(truth, abs=0.06)
        assert ahead.low <= ahead.by_point[0] < ahead.value < ahead.by_point[1] <= ahead.high
        assert ahead.uniform == pytest.approx(FLIPS.cdf(gain), abs=0.06)
    assert found[RETENTION][1.5].low > 0
    assert most_override(run) == pytest.approx(FLIPS.cdf(3.0), abs=0.04)


def test_uniform_scaling_under_another_name_is_never_ahead() -> None:
    for by_gain in over_costs(run_with(1, spared=1.0), "effect-gated").values():
        for ahead in by_gain.values():
            assert abs(ahead.value) < 0.04
            assert ahead.low <= 0.01
            assert ahead.high >= -0.01


def test_the_oracle_takes_conflicts_from_the_gain_and_all_else_from_the_base() -> None:
    frame = run_with(2, spared=0.5)
    whole = with_oracle(frame)
    for split, source in (("conflict", "uniform-3"), ("retention", "base")):
        of_oracle = whole.select(split, "oracle-3").set_index("item")["success_top1"]
        assert of_oracle.tolist() == frame.select(split, source).set_index("item")["success_top1"].tolist()
    row = Compared.of(frame).at_equal[KL]["oracle-3"]
    assert row.gain == 0.0
    assert row.difference.value == pytest.approx(FLIPS.cdf(3.0), abs=0.04)
