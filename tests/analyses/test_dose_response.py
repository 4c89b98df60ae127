"""Dose and response against what the simulation planted."""

import numpy as np
import pytest

from override_gap.analyses import dose_response
from override_gap.analyses.readings import RunFrame, values
from tests.simulate import simulate_readings

DOSE = ("base", "as-delivered", "uniform-1.25", "uniform-1.5", "uniform-2", "uniform-3")


@pytest.fixture(scope="module")
def run():
    return simulate_readings(3, conditions=DOSE, others=40, with_layers=False)


def without_critical(run):
    return RunFrame(run.manifest, run.readings.assign(critical_gain=None))


def test_gains_ascend_and_leave_policies_out(run):
    assert list(dose_response.gains(run)) == [0, 1, 1.25, 1.5, 2, 3]


def test_half_gain_is_the_median_critical_gain(run):
    rows = dose_response.failures(run, "all")
    assert dose_response.half_gain(run).value == pytest.approx(np.median(values(rows["critical_gain"])))


def test_half_gain_without_critical_gains_is_read_off_the_sweep(run):
    exact = dose_response.half_gain(run).value
    read = dose_response.half_gain(without_critical(run)).value
    assert read == pytest.approx(exact, abs=0.15)


def test_no_half_gain_where_nothing_is_rescued():
    run = simulate_readings(0, fault="wrong-content", conditions=DOSE, others=0, with_layers=False)
    found = dose_response.dose(run)
    assert found["half_gain"]["value"] is None
    assert "do not flip" in found["half_gain_note"]
    assert found["critical"]["not_rescuable"]["value"] > 0.9


def test_no_half_gain_without_failures():
    run = simulate_readings(0, fault="no-failure", conditions=DOSE, others=0, with_layers=False)
    rows = run.readings[run.readings["item"].isin(run.select("conflict", "as-delivered").query("success_top1")["item"])]
    assert dose_response.half_gain(RunFrame({}, rows)) is None
    assert dose_response.critical(RunFrame({}, rows))["not_rescuable"] is None


def test_linear_response_has_linearity_one(run):
    assert dose_response.critical(run)["linearity"]["value"] == pytest.approx(1, abs=0.03)


def test_rescued_needs_a_trial(run):
    short = RunFrame(
        run.manifest, run.readings[run.readings["condition"].isin(["base", "as-delivered"])].assign(critical_gain=None)
    )
    assert np.isnan(dose_response.rescued(short, dose_response.failures(short))).all()


def test_rescue_by_sweep_or_by_critical_gain(run):
    rows = dose_response.failures(run)
    by_hand = []
    for item in rows["item"]:
        mine = run.readings[run.readings["item"] == item]
        swept = mine[mine["condition"].str.startswith("uniform-")]["success_top1"].any()
        measured = np.isfinite(mine[mine["condition"] == "as-delivered"]["critical_gain"].astype(float)).any()
        by_hand.append(float(swept or measured))
    assert dose_response.rescued(run, rows).tolist() == by_hand
