"""The answer of a comparison: its numbers are those of the tables, its claim is that of the test, its advice follows."""

from __future__ import annotations

import numpy as np
import pytest

from override_gap.analyses.one_budget.answer import AHEAD, ALONE, EQUAL, OPEN, answer
from override_gap.analyses.one_budget.race import percent, points, race, setting
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.tune.more import more_conflicts
from tests.analyses.compare.comparisons import comparison


def words(found) -> str:
    return " ".join((found.compared, found.found, found.do))


def test_a_leader_is_named_with_its_gain_its_lead_and_its_price():
    found = answer(comparison(lead=(0.3, 0.2, 0.4, 0.001)), True)
    assert found.label == AHEAD
    assert found.compared.startswith(
        "one and two on model: 40 shared questions about 30 facts, among them 20 conflicts"
    )
    assert (
        "With at least 95% of unrelated answers kept, one (gain 1.5) overrides 90% [80, 95] of conflicts" in found.found
    )
    assert "one is ahead of two by 30 points [20, 40], p = 0.0010" in found.found
    assert found.do == "Use one at gain 1.5: it keeps 97% [90, 99] of unrelated answers."
    assert found.difference["value"] == pytest.approx(0.3)


def test_the_sign_is_the_leaders_whichever_method_stands_first():
    forth = answer(comparison(lead=(0.3, 0.2, 0.4, 0.001)), True)
    back = answer(comparison(lead=(0.3, 0.2, 0.4, 0.001), turned=True), True)
    assert words(forth) == words(back)


@pytest.mark.parametrize(
    ("lead", "label", "says"),
    [
        ((0.1, -0.02, 0.22, 0.1), OPEN, "Do not choose by this run yet: measure about "),
        ((0.01, -0.2, 0.22, 0.9), EQUAL, "Do not choose between one and two by this run: no difference is shown"),
        (
            (0.0, -0.2, 0.2, 1.0),
            EQUAL,
            "not ruled out that one overrides up to 20 points more, or two up to 20 points more",
        ),
    ],
)
def test_no_difference_is_claimed_where_p_is_not_small(lead, label, says):
    found = answer(comparison(lead=lead), True)
    assert found.label == label
    assert says in found.do
    assert "ahead" not in found.found
    assert "no difference is shown" in found.found
    assert (found.more is not None) == (label == OPEN)


def test_a_price_that_was_not_measured_is_said():
    given = comparison(lead=(0.3, 0.2, 0.4, 0.001), retention=False)
    del given["budget"]
    found = answer(given, False)
    assert found.basis == "as given"
    assert "at a price that is unknown: unrelated answers were not measured" in found.do


def test_as_given_weighs_the_price_of_the_two():
    given = comparison(lead=(0.3, 0.2, 0.4, 0.001))
    assert (
        "Use one as delivered if keeping 97% [90, 99] of unrelated answers is enough (two keeps 99%"
        in answer(given, False).do
    )
    given["outcomes"][2]["value"] = 0.995
    assert "it keeps no fewer unrelated answers" in answer(given, False).do


def test_a_weak_leader_is_no_remedy_and_an_open_choice_stays_open():
    given = comparison(lead=(0.3, 0.2, 0.4, 0.001), value=0.4)
    assert "It still does not override 60% of conflicts." in answer(given, True).do
    given["budget"]["methods"][0]["recommendation"] = "undecided"
    assert "for now: whether it stays within the budget" in answer(given, True).do


def test_with_nothing_to_compare_with_nothing_is_advised():
    given = comparison(lead=(0.3, 0.2, 0.4, 0.001))
    given["budget"]["methods"][1] |= {"conflict": None, "retention": None, "says": "No gain is within the budget."}
    given["budget"]["pairs"] = []
    found = answer(given, True)
    assert found.label == ALONE
    assert "two: No gain is within the budget" in found.found
    assert found.do.startswith("Do not choose by this run")


def test_more_than_two_are_told_with_holms_p_and_its_interval():
    given = comparison(lead=(0.3, 0.2, 0.4, 0.001), third=True)
    found = answer(given, True)
    assert "Holm's p = 0.003" in found.found
    assert f"[{100 * 0.18:.0f}, 42]" in found.found
    assert "and of all others. As delivered: one overrides 50% and keeps 99% of unrelated answers" in found.found
    assert race(given, True).told_apart == ["two", "three"]


def test_limits_that_are_not_nought_are_never_shown_as_nought():
    assert points({"value": 0.07, "low": 0.003, "high": 0.14}) == "7.0 points [0.3, 14.0]"
    assert points({"value": 0.07, "low": 0.0, "high": 0.14}) == "7 points [0, 14]"
    assert points({"value": -0.07, "low": -0.14, "high": -0.0004}) == "-7.00 points [-14.00, -0.04]"
    assert points({"value": 0.5, "low": None, "high": None}) == "50 points"
    assert percent({"value": 1.0, "low": None, "high": None}) == "100%"


def test_settings_in_words():
    said = [setting(name) for name in ("as-delivered", "uniform-1.25", "slb", "base", None)]
    assert said == ["as delivered", "at gain 1.25", "with slb", "without any adapter", ""]


def test_the_number_to_measure_decides_in_four_of_five_cases():
    """Paired outcomes drawn again at the size that is named: the test then rejects with about 80% probability."""
    from override_gap.analyses.stats.paired import paired_test

    rng, n, gained, lost = np.random.default_rng(0), 150, 0.14, 0.08
    error = np.sqrt((gained + lost - (gained - lost) ** 2) / n)
    gap = Estimate("", gained - lost, gained - lost - 1.96 * error, gained - lost + 1.96 * error, n, n)
    total = n + more_conflicts(gap).n
    draws = [rng.choice([1.0, -1.0, 0.0], size=total, p=[gained, lost, 1 - gained - lost]) for _ in range(400)]
    power = np.mean([paired_test(draw, np.arange(total)) < 0.05 for draw in draws])
    assert abs(power - 0.8) < 3 * np.sqrt(0.8 * 0.2 / 400) + 0.02
