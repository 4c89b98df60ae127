"""Planned sizes against closed forms, brute force and the verdict on real readings; and what the command refuses."""

import json

import numpy as np
import pytest
from scipy import stats

from override_gap.analyses.planning.paired_power import difference_power, retention_power
from override_gap.analyses.planning.pilot import pilot
from override_gap.analyses.planning.rule import Tallies
from override_gap.analyses.planning.simulated import Truth, audits, draw, sizes
from override_gap.analyses.planning.sizes import PlannedSize, search
from override_gap.analyses.planning.stopping import looks_at, stopped
from override_gap.analyses.planning.verdict_power import verdict_power
from override_gap.analyses.stats.clusters import labelled
from override_gap.analyses.stats.intervals import proportion
from override_gap.analyses.tune.budget import Budget
from override_gap.analyses.tune.outcomes import Outcomes, Sample
from override_gap.analyses.tune.select import Selector
from override_gap.reports.cli.main import main
from tests.analyses.searched import searched_run
from tests.analyses.test_causes import CASES


def test_the_probability_of_a_verdict_is_the_binomial_one_where_questions_are_independent():
    # every conflict is known, fails and is a point of its own: the verdict is magnitude where so many of n are held
    truth, n = Truth(1.0, 1.0, 0.85, 1.0, icc=0.0), 40
    points = list(range(n))
    least = next(k for k in range(n + 1) if proportion("", [1.0] * k + [0.0] * (n - k), points).low > 2 / 3)
    exact = stats.binom.sf(least - 1, n, 0.85)
    power = verdict_power(truth, 0.8, points=n)
    assert power.asked.reached == pytest.approx(exact, abs=0.045)
    assert sum(power.asked.outcomes.values()) == pytest.approx(1)
    assert power.needed.reached >= 0.8
    assert "With 40 points: magnitude" in str(power)
    assert all(len(line) <= 80 for line in str(power).splitlines())


def test_a_truth_on_a_boundary_has_no_size():
    with pytest.raises(ValueError, match="no number of items decides"):
        verdict_power(Truth(failing=0.2))


def test_few_relations_bound_what_more_points_tell(monkeypatch):
    monkeypatch.setattr("override_gap.analyses.planning.verdict_power.AUDITS_BY_RELATION", 60)
    power = verdict_power(Truth(1.0, 0.6, 0.72, 2.0, 12, 0.4, 0.3), 0.9)
    assert power.needed is None
    assert "more points of the same relations tell little" in " ".join(str(power).split())


def test_the_least_size_is_found_by_doubling_and_halving():
    tried = []

    def of_size(points):
        tried.append(points)
        return PlannedSize(points, points, float(points >= 97), 0.0, {})

    rows, needed = search(of_size, 0.8, 72)
    assert tried == [72, 10, 20, 40, 80, 160, 120, 100, 90]
    assert needed.points == 100
    assert [row.points for row in rows] == sorted(tried)
    assert search(lambda points: PlannedSize(points, points, 0.0, 0.0, {}), 0.8, None, most=40)[1] is None


def test_the_power_of_a_paired_difference_is_that_of_mcnemar():
    # n pairs of which .4 differ, .3 one way: p < .05 where the clustered McNemar statistic, here the usual one, is above 1.96
    n = 80
    rng = np.random.default_rng(0)
    differ = rng.multinomial(n, (0.3, 0.1, 0.6), size=20_000)
    exact = np.mean(np.abs(differ[:, 0] - differ[:, 1]) / np.sqrt(differ[:, 0] + differ[:, 1]) > 1.96)
    found = difference_power(0.2, 0.4, Truth(items_per_point=1.0, icc=0.0), 0.5, points=n)
    assert next(row.reached for row in found.rows if row.points == n) == pytest.approx(exact, abs=0.06)
    with pytest.raises(ValueError, match="give --differing"):
        difference_power(0.4, 0.3, Truth())


def test_the_power_of_a_price_is_the_binomial_one():
    n = 160

    def upper(lost):
        return stats.binomtest(lost, n, alternative="less").proportion_ci(0.95, "wilson").high

    most = max(k for k in range(n) if upper(k) <= 0.1)
    found = retention_power(0.97, 0.9, Truth(items_per_point=1.0, icc=0.0), 0.8, points=n)
    assert found.asked.reached == pytest.approx(stats.binom.cdf(most, n, 0.03), abs=0.03)
    with pytest.raises(ValueError, match="above the one to keep"):
        retention_power(0.9, 0.95, Truth())


@pytest.mark.parametrize("relations", [0, 12])
def test_the_power_of_a_price_is_that_of_the_rule_by_which_tuning_keeps_a_budget(relations):
    # audits drawn one by one, as base and one candidate, and put through the selection of `tune`
    truth, n = Truth(items_per_point=2.73, relations=relations), 48
    found = retention_power(0.985, 0.95, truth, points=n)
    rng = np.random.default_rng(8)
    per_point = sizes(n, truth.items_per_point)
    of_point = np.repeat(np.arange(n), per_point)
    relation = np.arange(n) % relations if relations else None
    points = np.array([f"p{point}" for point in of_point], dtype=object)
    if relations:
        points = labelled(points, np.array([f"r{relation[point]}" for point in of_point], dtype=object))
    items, within = np.arange(len(points)), []
    for kept in draw(rng, 300, of_point, relation, 0.985, truth.icc, truth.icc_relation):
        values = np.column_stack([np.ones(len(kept)), kept])
        audit = Outcomes(
            ("base", "x"), Sample(items, points, values), Sample(items, points, values), None, None, None, {}
        )
        within.append(Selector(audit, Budget(keep=0.95), [0.0, 0.0]).priced().within[1])
    assert found.asked.reached == pytest.approx(np.mean(within), abs=0.1)
    assert found.asked.reached > 0.3, "by the two-sided interval it is 0% without relations"


def test_the_first_sentence_speaks_of_the_size_that_was_asked_for():
    text = " ".join(str(retention_power(0.985, 0.95, Truth(items_per_point=2.73), points=48)).split())
    assert text.startswith(
        "With 48 knowledge points (131 items) the probability to find with 95% certainty that at least 95%"
    )
    text = " ".join(str(difference_power(0.3, 0.4, Truth(icc=0.0), points=40)).split())
    assert text.startswith(
        "With 40 knowledge points (100 items) the probability to find a difference of 30 percentage points"
    )
    text = " ".join(str(difference_power(0.3, 0.4, Truth(icc=0.0))).split())
    assert text.startswith("80% probability to find a difference of 30 percentage points takes ")
    text = " ".join(str(verdict_power(Truth(known=0.0), points=20)).split())
    assert "0% probability. No audit of up to 1280 points has magnitude with 80% probability." in text


def test_a_pilot_gives_the_truth_and_what_it_leaves_open():
    run = searched_run({n: CASES["too weak" if n % 5 else "no content"] for n in range(80)})
    found = pilot(run)
    assert found.truth.known == 1.0
    assert found.truth.failing == pytest.approx(80 / 150)
    assert found.truth.held == pytest.approx(64 / 80)
    assert found.truth.items_per_point == pytest.approx(150 / 60)
    held = np.array([truth.held for truth in found.truths])
    low, high = found.shares[2].low, found.shares[2].high
    assert low - 0.05 < held.min() < 0.8 < held.max() < high + 0.08, "about as wide as the interval"
    power = verdict_power(found.truth, 0.8, truths=found.truths)
    assert power.uncertain[-1].reached < power.rows[-1].reached, "what is not known makes the verdict less certain"
    with pytest.raises(ValueError, match="were not searched"):
        pilot(searched_run({}))


def test_all_held_in_a_pilot_is_not_taken_for_certain():
    found = pilot(searched_run(dict.fromkeys(range(14), CASES["too weak"])))
    assert found.truth.held == 1.0
    assert min(truth.held for truth in found.truths) < 0.95


def test_audits_that_stop_have_the_label_of_a_look():
    drawn = audits(np.random.default_rng(0), Truth(1.0, 0.6, 0.95, 2.0), 100, 200)
    places = looks_at(100)
    assert places == [20, 40, 60, 80, 100]
    label, stop = stopped(drawn, places)
    assert set(stop) <= set(places)
    assert (stop < 100).mean() > 0.9
    assert (label[stop < 100] == 1).all()
    never = Tallies(drawn.known, drawn.failing * 0, drawn.held * 0)
    assert (stopped(never, places)[1] < 100).all(), "nothing fails: decided early as no-failure"


def test_the_command_answers_in_text_and_json(capsys):
    assert main(["power", "--known", "0.3", "--points", "72", "--items-per-point", "2.7"]) == 0
    assert "With 72 points: magnitude" in capsys.readouterr().out
    assert main(["power", "retention", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["needed"]["reached"] >= 0.8


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--known 30", "needs a share from 0 to 1, got '30'"),
        ("--points 0", "needs a whole number from 2 to 2,560"),
        ("--points 2.5", "needs a whole number"),
        ("--kept 0.9", "--kept is for `override-gap power retention`, not for verdict"),
        ("difference --held 0.9", "--held is for `override-gap power verdict`"),
        ("--icc 0.1 --icc-relation 0.3", "--icc-relation 0.3 is above --icc 0.1"),
        ("--failures 0.2", "no number of items decides"),
        ("--held nan", "needs a share from 0 to 1"),
        ("--pilot nowhere", "nowhere"),
        ("price", "invalid choice"),
        ("difference --difference 0.5", "give --differing"),
    ],
)
def test_wrong_words_are_refused_in_one_line(words, says, capsys):
    assert main(["power", *words.split()]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
