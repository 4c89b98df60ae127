"""The verdict finds the planted fault, and is inconclusive where data are few."""

import pytest

from override_gap.analyses.readings import RunFrame
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.verdict import chance_rate, corrected, judge, verdict
from tests.simulate import simulate_readings

DOSE = ("base", "as-delivered", "uniform-1.5", "uniform-2", "uniform-3")
LIGHT = {"conditions": DOSE, "others": 0, "with_layers": False}


@pytest.mark.parametrize(
    ("fault", "label"),
    [
        ("magnitude", "magnitude"),
        ("no-failure", "no-failure"),
        ("wrong-content", "representational"),
        ("wrong-direction", "representational"),
        ("growing", "magnitude"),
    ],
)
def test_pure_faults_are_found(fault, label):
    right = sum(verdict(simulate_readings(seed, fault=fault, **LIGHT)).label == label for seed in range(25))
    assert right >= 24


def test_mixtures_are_found():
    right = sum(
        verdict(simulate_readings(seed, fault="mixture", share=0.4, **LIGHT)).label == "mixed" for seed in range(25)
    )
    assert right >= 21


def test_magnitude_is_never_said_of_a_wrong_adapter():
    labels = {verdict(simulate_readings(s, 20, 40, "wrong-content", **LIGHT)).label for s in range(25)}
    assert "magnitude" not in labels
    assert "no-failure" not in labels


@pytest.mark.parametrize(("points", "questions"), [(1, 30), (3, 30), (4, 8)])
def test_few_data_are_inconclusive(points, questions):
    found = verdict(simulate_readings(0, points, questions, **LIGHT))
    assert found.label == "inconclusive"
    assert "do not decide" in found.sentence


def test_no_dose_no_verdict():
    run = simulate_readings(0, conditions=("base", "as-delivered"), others=0, with_layers=False)
    run = RunFrame(run.manifest, run.readings.assign(critical_gain=None))
    found = verdict(run)
    assert found.label == "inconclusive"
    assert "no gain above 1" in found.sentence


def test_without_a_weight_update_the_magnitude_question_does_not_apply():
    few = {**LIGHT, "conditions": ("base", "as-delivered")}

    def opaque(fault):
        run = simulate_readings(0, fault=fault, **few)
        adapters = {**run.manifest["adapters"], "static": False}
        return verdict(RunFrame({**run.manifest, "adapters": adapters}, run.readings.assign(critical_gain=None)))

    found = opaque("magnitude")
    assert found.label == "inconclusive"
    assert "no gain to vary" in found.sentence
    assert found.failing is not None
    assert f"{found.failing.value:.0%}" in found.sentence
    assert opaque("no-failure").label == "no-failure", "little fails, so the question does not arise"


def test_unknown_old_answers_are_no_conflicts():
    run = simulate_readings(0, **LIGHT)
    found = verdict(RunFrame(run.manifest, run.readings.assign(known=False)))
    assert found.label == "inconclusive"


@pytest.mark.parametrize(
    ("low", "high", "label"),
    [
        (0.70, 0.95, "magnitude"),
        (0.01, 0.30, "representational"),
        (0.30, 0.60, "mixed"),
        (0.60, 0.95, "inconclusive"),
        (0.05, 0.50, "inconclusive"),
    ],
)
def test_the_rule_reads_the_interval(low, high, label):
    assert judge(Estimate("", (low + high) / 2, low, high, 50, 20))[0] == label


def test_chance_is_the_rate_of_a_random_answer():
    # Wrong documents push one other answer of 40 each: 1/39 a candidate, over the failures where the push wins.
    run = simulate_readings(0, 300, 900, "wrong-content", **LIGHT)
    rows = run.select("conflict", "as-delivered")
    assert chance_rate(run, rows) == pytest.approx(1 / 39, rel=0.1)
    share = Estimate("", 0.5, 0.4, 0.6, 10, 10)
    assert corrected(share, 0.2).value == pytest.approx(0.375)
    assert corrected(share, None) is share


def test_an_adapter_that_is_too_strong_is_not_called_too_small():
    run = simulate_readings(0, fault="wrong-content", **LIGHT)
    readings = run.readings.copy()
    fails = (readings["condition"] == "as-delivered") & ~readings["success_top1"].astype(bool)
    readings.loc[fails, "critical_gain"] = 0.4
    found = verdict(RunFrame(run.manifest, readings))
    assert found.label != "magnitude"
    assert "too strong" in found.sentence
