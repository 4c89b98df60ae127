"""A cost that could not be read ends an item's search and is not taken for a broken model."""

from __future__ import annotations

import math

import pytest

from override_gap.probes.readings.search import Step
from override_gap.probes.readings.unrelated import BROKEN, Cost
from override_gap.probes.run.search import until_broken


@pytest.mark.parametrize(
    ("kl", "broken", "measured"),
    [(0.1, False, True), (BROKEN, False, True), (1.01, True, True), (math.inf, True, True), (math.nan, False, False)],
)
def test_only_a_cost_that_was_read_can_say_that_a_model_is_broken(kl: float, broken: bool, measured: bool) -> None:
    cost = Cost(kl, 1.0)
    assert cost.broken is broken
    assert cost.measured is measured


def test_the_gains_to_the_breaking_one_end_where_a_cost_is_missing() -> None:
    asked: list[float] = []

    def costs(rows, gain):
        asked.append(gain)
        return [Cost(math.nan if gain >= 3 else 0.1 * gain, 1.0) for _ in rows]

    further = until_broken([Step(0, 1.0, Cost(0.1, 1.0))], costs)
    assert asked == [1.5, 2.0, 3.0]
    assert [step.cost.broken for step in further] == [False] * 3
