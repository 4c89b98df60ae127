"""The four answers, on audits whose truth is stated, and what is said where there is too little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from override_gap.analyses.readings import RunFrame
from override_gap.analyses.tune import Budget, Choice, choose
from tests.analyses.tune.curves import Curves


def tuned(curves: Curves, budget: Budget, points: int = 80, seed: int = 5, **sizes) -> Choice:
    return choose(curves.draw(np.random.default_rng(seed), points=points, **sizes), budget)


def test_scale_where_a_larger_gain_overrides_more_and_keeps_the_budget():
    curves = Curves(flip=0.2, lose=1.6, point=0.3)
    choice = tuned(curves, Budget(0.95))
    gain = float(choice.policy.removeprefix("uniform-"))
    assert choice.recommendation == "scale"
    assert curves.kept(gain) >= 0.95
    assert curves.override(gain) > curves.override(1.0) + 0.2
    assert choice.says.startswith(f"Use {choice.policy}: it overrides ")


def test_scale_down_where_as_delivered_is_beyond_the_budget():
    curves = Curves(flip=-1.2, lose=0.2, point=0.3)
    choice = tuned(curves, Budget(0.9))
    assert (choice.policy, choice.recommendation) == ("uniform-0.5", "scale")
    assert f"As delivered keeps {choice.frame().set_index('condition').kept['as-delivered']:.1%}" in choice.says


def test_as_delivered_where_more_costs_too_much_and_where_nothing_is_left_to_gain():
    dear = tuned(Curves(flip=0.3, lose=0.45, point=0.15, item=0.05), Budget(0.95))
    assert (dear.policy, dear.recommendation) == ("as-delivered", "as-delivered")
    assert "overrides more" in dear.says
    done = tuned(Curves(flip=-1.5, lose=2.5, point=0.3), Budget(0.95))
    assert done.recommendation == "as-delivered"
    assert done.expected["conflict"] is not None
    assert done.expected["conflict"].value > 0.95


def test_no_gain_helps_where_the_others_never_flip():
    choice = tuned(Curves(flip=-1.5, lose=2.5, point=0.3, reached=0.5), Budget(0.95))
    assert choice.recommendation == "no-gain"
    assert choice.says.startswith("No gain helps")


def test_no_gain_where_even_the_least_gain_breaks_the_budget():
    choice = tuned(Curves(flip=0.0, lose=-2.0, point=0.3), Budget(0.95))
    assert (choice.policy, choice.recommendation) == ("base", "no-gain")
    assert "even uniform-0.5, the cheapest that was measured, keeps" in choice.says


def test_undecided_says_how_many_more_would_decide():
    few = tuned(Curves(flip=0.0, lose=1.25, point=0.3), Budget(0.97), points=24, unrelated=1)
    assert few.recommendation == "undecided"
    assert few.frame().set_index("condition").kept["uniform-1.5"] == 1
    # Wilson's upper limit of none lost among n is z^2 / (n + z^2): n for a limit of 0.03, less the 24 that there are
    least = 1.6448536**2 * 0.97 / 0.03 - 24
    assert few.more["retention"] is not None
    assert least <= few.more["retention"] <= least * 1.03 + 1
    assert f"about {few.more['retention']:,} more unrelated questions" in few.says


def test_the_largest_gain_that_was_measured_is_said_to_be_that():
    curves = Curves(flip=1.6, lose=4.0, point=0.3)
    choice = tuned(curves, Budget(0.9))
    assert choice.policy == "uniform-3"
    assert choice.further[0].startswith("It is the largest gain that was measured")
    assert "uniform-6" in choice.further[0]


def test_without_a_gain_that_is_shown_to_keep_the_budget_the_adapters_are_left_as_they_are():
    choice = tuned(Curves(flip=0.0, lose=2.5, point=0.3), Budget(0.995), points=30)
    assert (choice.policy, choice.recommendation) == ("as-delivered", "undecided")
    assert "no gain is shown to be within the budget" in choice.says


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"unrelated": 0}, "Retention was not measured: what a gain costs is unknown"),
        ({"points": 4}, "Too few conflicts to choose a gain on: 12 on 4 knowledge points; it takes 10 on 5"),
        ({"points": 8, "unrelated": 1}, "Too few unrelated questions to price a gain: 8 on 8"),
    ],
)
def test_too_little_is_said_instead_of_a_number(changed, words):
    choice = choose(Curves().draw(np.random.default_rng(0), **{"points": 30, **changed}), Budget(0.9))
    assert (choice.policy, choice.recommendation) == ("as-delivered", "undecided")
    assert choice.says.startswith(words)
    assert choice.as_json()["expected"] == dict.fromkeys(choice.as_json()["expected"])


def test_answers_in_words_that_were_not_asked_are_said_to_be_missing():
    choice = choose(Curves().draw(np.random.default_rng(0)), Budget(0.9, measure="answer"))
    assert "none answered in words (--answers sets how many are)" in choice.says


def test_kl_that_is_infinite_is_beyond_every_budget():
    run = Curves(flip=0.2, lose=3.0).draw(np.random.default_rng(1))
    broken = (run.readings.condition == "uniform-1.5") & (run.readings["item"] == "retention-0")
    readings = run.readings.assign(kl=run.readings.kl.mask(broken))
    rows = choose(RunFrame(run.manifest, readings), Budget(None, 5.0)).frame().set_index("condition")
    assert not rows.within["uniform-1.5"]
    assert rows.within["uniform-1.75"]


def test_a_method_without_a_gain_is_told_so():
    run = Curves().draw(np.random.default_rng(1), gains=(0.0, 1.0))
    assert choose(run, Budget(0.5)).recommendation == "undecided"
    static = replace(run, manifest={**run.manifest, "adapters": {"static": False}})
    choice = choose(static, Budget(0.5))
    assert choice.recommendation == "no-gain"
    assert "not a weight update" in choice.says


def test_by_answer_what_the_base_does_not_answer_itself_is_no_price():
    run = Curves(flip=0.2, lose=1.6, point=0.3).draw(np.random.default_rng(5), points=80)
    rows = run.readings
    # half of the unrelated questions the base answers wrongly: no condition can lose them
    unanswered = (rows.split == "retention") & rows["item"].isin([f"retention-{n}" for n in range(80)])
    by_answer = RunFrame(run.manifest, rows.assign(success_answer=rows.success_top1 & ~unanswered))
    choice = choose(by_answer, Budget(0.95, measure="answer"))
    kept = rows[(rows.split == "retention") & ~unanswered].groupby("condition").success_top1.mean()
    found = choice.frame().set_index("condition")
    assert found.kept.to_dict() == pytest.approx(kept[found.index].to_dict())
    assert choice.expected["retention"] is not None
    assert choice.expected["retention"].n == 80
    assert choice.expected["conflict"] is not None
    assert choice.expected["conflict"].n == 240
