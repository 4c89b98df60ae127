"""Methods under one budget: the truth of simulated audits is told, chance is not, and the words follow the intervals."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.compare.pairing import shared_items
from override_gap.analyses.one_budget.methods import at_budget, budgets, under_budget
from override_gap.analyses.one_budget.methods import standing as leader
from override_gap.analyses.one_budget.winner import Standing, winner_in_words
from override_gap.analyses.price import interval
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.tune import Budget, choose
from override_gap.reports.cli.compare import _cell, _under_budget
from override_gap.reports.page.budget_tables import budget_tables
from override_gap.reports.text import per_cent
from tests.analyses.tune.curves import Curves

KEEP = Budget(0.9)


def audit(seed: int, points: int = 60, **curves: float) -> RunFrame:
    """One audit on a subject with a fingerprint."""
    run = Curves(**curves).draw(np.random.default_rng(seed), points)
    return RunFrame(run.manifest | {"subject": {"name": "m", "fingerprint": "f"}}, run.readings)


def test_a_method_that_needs_a_gain_wins_under_the_budget_though_not_as_delivered() -> None:
    # as delivered both override half; at gain 2, which the first can afford, it overrides nearly all
    runs = {"cheap": audit(1, lose=2.5), "dear": audit(2, lose=0.45)}
    found = under_budget(runs, KEEP)
    rows = {row["method"]: row for row in found.methods}
    assert rows["cheap"]["conflict"]["value"] > 0.9
    assert rows["dear"]["conflict"]["value"] < 0.7
    at = {row["at"]: row for row in found.pairs}
    assert at["budget"]["p_holm"] < 0.05 < at["as-delivered"]["p_holm"]
    assert "cheap is ahead of dear by" in found.says
    assert found.winners[[row["budget_keep"] for row in found.winners].index(0.9)]["ahead_of_all"]


def test_the_figures_are_those_of_every_item_under_the_policy_chosen_without_its_fold() -> None:
    runs = {"a": audit(1), "b": audit(2, flip=0.3)}
    found = under_budget(runs, KEEP)
    each = {}
    for name, run in runs.items():
        table = choose(run, KEEP).held_out()
        wide = run.readings.set_index(["item", "condition"])
        for split in ("conflict", "retention"):
            rows = table[table["split"] == split]
            success = [
                bool(wide.loc[(i, c), "success_top1"]) for i, c in zip(rows["item"], rows["condition"], strict=True)
            ]
            each[name, split] = pd.Series(success, rows["item"]).astype(float)
        rows = table[table["split"] == "retention"]
        kl = np.mean([wide.loc[(i, c), "kl"] for i, c in zip(rows["item"], rows["condition"], strict=True)])
        row = next(row for row in found.methods if row["method"] == name)
        assert row["conflict"]["value"] == pytest.approx(each[name, "conflict"].mean())
        assert row["retention"]["value"] == pytest.approx(each[name, "retention"].mean())
        assert row["kl"]["value"] == pytest.approx(kl)
    gap = (each["a", "conflict"] - each["b", "conflict"]).mean()
    assert found.pairs[0]["difference"]["value"] == pytest.approx(gap)


def test_equal_methods_are_seldom_told_apart() -> None:
    claims = 0
    for seed in range(12):
        # unlike in chance alone: the same curves, other draws
        runs = {"a": audit(2 * seed, 40), "b": audit(2 * seed + 1, 40)}
        about, _ = shared_items(runs)
        claims += bool(leader(at_budget(runs, about, Budget(0.6), 0), about).told_apart)
    assert claims <= 2, "at 5% more than 2 of 12 has a probability of 2%"


def test_a_method_without_a_price_is_not_compared() -> None:
    with_price, without = audit(1), audit(2)
    rows = without.readings[without.readings["split"] == "conflict"]
    found = under_budget({"a": with_price, "b": RunFrame(without.manifest, rows)}, KEEP)
    assert "b is not compared: retention was not measured" in found.says
    assert "there is no other to compare it with" in found.says
    assert [row["conflict"] is None for row in found.methods] == [False, True]
    assert {row["at"] for row in found.pairs} == {"as-delivered"}


def test_budgets_go_from_the_cheapest_on_and_hold_the_one_asked_for() -> None:
    keeps = [each.keep for each in budgets(Budget(0.93, 0.1))]
    assert keeps == sorted(keeps, reverse=True)
    assert 0.93 in keeps
    assert {each.kl for each in budgets(Budget(0.93, 0.1))} == {0.1}
    kls = [each.kl for each in budgets(Budget(None, 0.07))]
    assert kls == sorted(kls)
    assert 0.07 in kls


def standing(*leads: tuple[float, float, float, float]) -> Standing:
    """A leader `a` over `b`, `c` ...: value, low, high and Holm's p of each paired lead, the other method first in the row."""
    names = "abcdef"[: len(leads) + 1]
    shares = {n: Estimate(n, 0.9 - 0.1 * k, 0.5, 1.0, 100, 30) for k, n in enumerate(names)}
    pairs = [
        {"first": n, "second": "a", "difference": {"value": -v, "low": -high, "high": -low}, "p_holm": p}
        for n, (v, low, high, p) in zip(names[1:], leads, strict=True)
    ]
    return Standing.of(shares, pairs, dict.fromkeys(names, "slb"), {})


@pytest.mark.parametrize(
    ("leads", "words", "ahead"),
    [
        ([(0.1, 0.02, 0.18, 0.01)], "a is ahead of b by 10 points [2, 18].", True),
        ([(0.1, -0.02, 0.22, 0.2)], "they are not told apart (difference 10 points [-2, 22]).", False),
        (
            [(0.1, -0.02, 0.22, 0.2), (0.2, 0.1, 0.3, 0.01)],
            "a is ahead of c by 20 points [10, 30], not shown to be ahead of b (10 points [-2, 22]).",
            False,
        ),
        (
            [(0.1, -0.02, 0.22, 0.2), (0.2, -0.1, 0.5, 0.1)],
            "a is not shown to be ahead of any of them (of b by 10 points [-2, 22]).",
            False,
        ),
        # by itself the interval excludes zero, but not with all pairs in mind
        ([(0.1, 0.01, 0.19, 0.06), (0.2, 0.1, 0.3, 0.01)], "not shown to be ahead of b (10 points [1, 19]).", False),
    ],
)
def test_the_sentence_claims_no_more_than_the_adjusted_test(leads: list, words: str, ahead: bool) -> None:
    found = standing(*leads)
    assert winner_in_words(found, KEEP).endswith(words)
    assert found.as_json()["ahead_of_all"] is ahead
    assert found.as_json()["lead"]["low"] == pytest.approx(leads[0][1])


def test_what_tuning_leaves_undecided_is_no_answer() -> None:
    # so few unrelated questions cannot show that .99 are kept
    runs = {"a": audit(1, lose=1.2), "b": audit(2, lose=0.3)}
    found = under_budget(runs, Budget(0.99))
    winners = {row["budget_keep"]: row for row in found.winners}
    for keep, row in winners.items():
        advice = {name: choose(run, Budget(keep)).recommendation for name, run in runs.items()}
        assert row["undecided"] == [name for name, each in advice.items() if each == "undecided"]
    assert winners[0.99]["undecided"], "a budget that these questions cannot show to be kept"
    for name in winners[0.99]["undecided"]:
        policy = next(row["policy"] for row in found.methods if row["method"] == name)
        assert f"{name} at {policy} (undecided) overrides" in found.says
    page = {table.title: table for table in budget_tables({"budget": found.as_json()})}["Who wins at which price?"]
    cells = [re.sub("<[^>]*>", "", str(row[page.head.index("undecided")])) for row in page.rows]
    assert cells == [", ".join(row["undecided"]) or "none" for row in found.winners]
    lines = _under_budget(found.as_json(), {"a": "a", "b": "b"})
    answers = lines[next(n for n, line in enumerate(lines) if line.startswith("by budget")) :]
    assert sum(line.count("undecided") for line in answers) == sum(len(row["undecided"]) for row in found.winners)


def test_the_answer_says_how_few_unrelated_questions_are_shared() -> None:
    shares = {"a": Estimate("a", 0.9, 0.5, 1.0, 100, 30)}
    words = [winner_in_words(Standing.of(shares, [], {"a": "slb"}, {}, (), n), KEEP) for n in (19, 1, 20, None)]
    assert "items (unrelated questions that all of them share: 19): there is no other" in words[0]
    assert "share: 1)" in words[1]
    assert words[2] == words[3]
    assert "share:" not in words[2]


def test_no_zero_is_negative() -> None:
    text = winner_in_words(standing((-0.001, -0.004, 0.2, 0.9)), KEEP)
    assert text.endswith("(difference 0 points [0, 20]).")
    assert per_cent(-0.0004) == "0.0"
    row = {"value": -0.001, "low": -0.004, "high": 0.2}
    assert _cell(row, sign=True) == "+0.00 [+0.00, +0.20]"
    assert interval(-0.2, -0.6, ".0f") == " [0, -1]"
