"""The choice under a budget against brute force over folds and against truths in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.readings import RunFrame
from override_gap.analyses.tune import Budget, choose
from tests.analyses.tune.curves import GAINS, Curves, name_of


def by_hand(rows, budget: Budget, allowed: set[str]) -> str:
    """The allowed condition with the highest override; of those that tie the gain nearest 1."""
    share = rows[rows.split == "conflict"].groupby("condition").success_top1.mean()
    gain = rows.groupby("condition").gain_mean.first()
    order = sorted(allowed, key=lambda name: (-share[name], abs(np.log2(gain[name])) if gain[name] else np.inf))
    return order[0]


def within_by_limit(rows, keep: float) -> set[str]:
    """Conditions whose share of lost answers has a one-sided 95% Wilson limit within the bound, written out per condition."""
    from scipy.stats import t

    found = {"base"}
    for name, of in rows[rows.split == "retention"].groupby("condition"):
        lost = 1 - of.success_top1.astype(float)
        p, n, points = lost.mean(), len(of), of.point.nunique()
        sums = (lost - p).groupby(of.point).sum()
        effect = max(1.0, points / (points - 1) * (sums**2).sum() / n / (p * (1 - p))) if 0 < p < 1 else 1.0
        size, q = n / effect, t.ppf(0.95, points - 1)
        upper = (p + q**2 / (2 * size) + q * np.sqrt(p * (1 - p) / size + q**2 / (4 * size**2))) / (1 + q**2 / size)
        if upper <= 1 - keep + 1e-12:
            found.add(str(name))
    return found


@pytest.mark.parametrize("keep", [0.8, 0.9, 0.95])
def test_the_rule_on_all_items_is_that_written_out_by_hand(keep):
    run = Curves().draw(np.random.default_rng(1))
    rows, budget = run.readings, Budget(keep)
    assert choose(run, budget).policy == by_hand(rows, budget, within_by_limit(rows, keep))


def test_every_item_stands_under_the_condition_that_was_chosen_without_its_fold():
    run = Curves().draw(np.random.default_rng(2))
    rows = run.readings
    choice = choose(run, Budget(None, 0.1))
    held = choice.held_out()
    assert held.groupby("point").fold.nunique().max() == 1, "a knowledge point is held out as a whole"
    assert len(held) == 60 * 3 + 60 * 2
    for fold, of in held.groupby("fold"):
        assert of.condition.nunique() == 1
        # the same choice from the readings without the fold's points, on copies that know nothing of folds
        rest = rows[~rows.point.isin(of.point)]
        share = rest[rest.split == "conflict"].groupby("condition").success_top1.mean()
        picked = of.condition.iloc[0]
        dearer = [name_of(gain) for gain in GAINS if share[name_of(gain)] > share[picked]]
        kl = rest[rest.split == "retention"].groupby("condition").kl.mean()
        assert kl[picked] <= 0.1, fold
        assert all(kl[name] > 0.1 * 0.8 for name in dearer), "what overrides more is beyond the budget, or near it"
    stored = rows.set_index(["item", "condition"]).success_top1
    assert [stored[key] for key in zip(held["item"], held["condition"], strict=True)] == held.success.tolist()


def test_figures_are_those_of_the_held_out_items_and_optimism_is_the_difference():
    choice = choose(Curves().draw(np.random.default_rng(3)), Budget(0.9))
    held = choice.held_out()
    written = choice.as_json()
    by_split = held.groupby("split").agg({"success": "mean", "kl": "mean"})
    assert written["expected"]["conflict"]["value"] == pytest.approx(by_split.success["conflict"])
    assert written["expected"]["retention"]["value"] == pytest.approx(by_split.success["retention"])
    assert written["expected"]["kl"]["value"] == pytest.approx(by_split.kl["retention"])
    in_sample = choice.frame().set_index("condition").conflict[choice.policy]
    assert written["in_sample"]["conflict"]["value"] == pytest.approx(in_sample)
    assert choice.optimism == pytest.approx(in_sample - by_split.success["conflict"])


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"keep": 95.0}, "did you mean 0.95"),
        ({"keep": None, "kl": None}, "needs a bound"),
        ({"kl": -1.0}, "above 0"),
        ({"measure": "margin"}, "top1 or answer"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(stated, words):
    with pytest.raises(ValueError, match=words):
        Budget(**stated)


def test_candidates_that_were_not_measured_are_refused_by_name():
    run = Curves().draw(np.random.default_rng(4))
    with pytest.raises(ValueError, match=r"'slb' was not measured in this run; measured: uniform-0\.5"):
        choose(run, Budget(), ["slb"])
    assert choose(run, Budget(0.5), ["uniform-1.25"]).frame().condition.tolist() == [
        "base",
        "as-delivered",
        "uniform-1.25",
    ]


@pytest.mark.parametrize(("right", "said"), [(0.9, False), (0.4, True)])
def test_questions_that_no_choice_is_made_on_are_read_under_the_policy_and_a_loss_is_said(right: float, said: bool):
    run = Curves().draw(np.random.default_rng(5))
    before = choose(run, Budget(0.9))
    # 80 combination questions on points of their own: 90% right as delivered, `right` under every other gain
    names = run.manifest["conditions"]
    share = {name: 0.9 if name == "as-delivered" else right for name in names}
    asked = run.readings[run.readings.item.isin([f"conflict-{n}" for n in range(80)])].copy()
    number = asked.item.str.removeprefix("conflict-").astype(int)
    asked = asked.assign(
        split="combination",
        item="combination-" + number.astype(str),
        point="q" + (number // 2).astype(str),
        success_top1=[(n % 10) < 10 * share[name] for n, name in zip(number, asked.condition, strict=True)],
    )
    choice = choose(RunFrame(run.manifest, pd.concat([run.readings, asked], ignore_index=True)), Budget(0.9))
    assert choice.policy == before.policy != "as-delivered"
    assert choice.as_json()["expected"]["conflict"] == before.as_json()["expected"]["conflict"], (
        "no fold changes by them"
    )
    expected = choice.expected["combination"]
    assert expected is not None
    assert (expected.value, expected.n) == (pytest.approx(right), 80)
    told = [line for line in choice.further if "combine the document with another fact" in line]
    assert bool(told) is said
    if said:
        assert "answers 40%, as delivered 90% (-50 points [" in told[0]


def test_of_equal_override_the_cheaper_is_chosen() -> None:
    run = Curves().draw(np.random.default_rng(6))
    rows = run.readings
    chosen = choose(run, Budget(0.9)).policy
    # the same overrides at a third of the KL and with every answer kept, at a gain farther from 1
    twin = rows[rows.condition == chosen].assign(condition="uniform-4", gain_mean=4.0)
    twin = twin.assign(kl=twin.kl / 3, success_top1=twin.success_top1 | (twin.split == "retention"))
    manifest = {"conditions": [*run.manifest["conditions"], "uniform-4"]}
    both = choose(RunFrame(manifest, pd.concat([rows, twin], ignore_index=True)), Budget(0.9))
    assert both.policy == "uniform-4"
    assert both.folds["n"] == sum(row["folds"] for row in both.rows)


def test_where_as_delivered_stays_its_figures_are_its_own_whatever_the_folds_pick() -> None:
    """Folds that pick another gain say nothing of as-delivered: once its expected override was theirs."""
    for seed in range(40):
        run = Curves(lose=0.75).draw(np.random.default_rng(seed), points=30)
        choice = choose(run, Budget(0.8))
        if choice.policy == "as-delivered" and any(r["folds"] for r in choice.rows if r["condition"] != "as-delivered"):
            break
    else:
        pytest.fail("no draw in which folds disagree with as-delivered")
    rows = run.readings[run.readings.condition == "as-delivered"].groupby("split")
    expected = choice.as_json()["expected"]
    assert expected["conflict"]["value"] == pytest.approx(rows.success_top1.mean()["conflict"])
    assert expected["kl"]["value"] == pytest.approx(rows.kl.mean()["retention"])
    assert expected["difference"] is None
    assert choice.optimism == 0.0


def test_a_sentence_on_folds_that_choose_another_says_so() -> None:
    for seed in range(40):
        choice = choose(Curves().draw(np.random.default_rng(seed)), Budget(0.9))
        same = sum(row["folds"] for row in choice.rows if row["chosen"])
        if choice.recommendation == "scale":
            assert (f"(this in {same} of {choice.folds['n']} folds)" in choice.says) is (same < choice.folds["n"])


def test_an_unfinished_run_says_so() -> None:
    run = Curves().draw(np.random.default_rng(7))
    unfinished = RunFrame(run.manifest | {"complete": False}, run.readings)
    assert "not complete: 300 items" in choose(unfinished, Budget(0.9)).further[0]
