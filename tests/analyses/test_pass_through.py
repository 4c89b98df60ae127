"""Pass-through and its conditions, on readings whose slope is planted here, and on worked numbers."""

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses import pass_through
from override_gap.analyses.hypotheses import STANDARD, evaluate
from override_gap.analyses.readings import RunFrame
from tests.simulate import simulate_readings

H2 = STANDARD[1]


def planted(slope, level=-4.0, noise=0.0, seed=0, frequency=False, silent=1.0):
    """A run whose adapted margin is level + slope * belief; wordings of a point share the belief, noise is of each wording."""
    run = simulate_readings(0, conditions=("base", "as-delivered"), others=0, with_layers=False, frequency=frequency)
    rng = np.random.default_rng(seed)
    rows = run.readings.copy()
    rows["question"] = rows["item"]
    rows["answer"], rows["prior_answer"] = "document", "prior"
    points = {point: 6 + 2 * rng.normal() for point in rows["point"].unique()}
    items = {item: noise * rng.normal() for item in rows["item"].unique()}
    belief = rows["point"].map(points).to_numpy()
    base = belief + rows["item"].map(items).to_numpy()
    scatter = rows["item"].map({item: 0.3 * rng.normal() for item in items}).to_numpy()
    adapted = base + silent * (level + slope * belief + scatter - base)
    given = rows["condition"].to_numpy() == "as-delivered"
    rows["known"], rows["prior_margin"] = True, base
    rows["net_margin"] = -np.where(given, adapted, base)
    rows["adapter_margin"] = np.where(given, base - adapted, 0.0)
    return RunFrame(run.manifest, rows)


@pytest.mark.parametrize(("slope", "level"), [(1.0, -4.0), (0.65, -2.0), (-0.4, 0.0)])
def test_the_planted_slope_is_found(slope, level):
    for method in ("ols", "iv"):
        found = pass_through.pass_through(planted(slope, level), "known", method).slope
        assert found.low < slope < found.high
        assert found.high - found.low < 0.3


def test_noise_pulls_least_squares_down_and_not_the_instrument():
    run = planted(1.0, noise=2.0)
    plain, instrument = (pass_through.pass_through(run, "known", method).slope for method in ("ols", "iv"))
    assert plain.high < 0.75
    assert instrument.low < 1 < instrument.high
    assert pass_through.read(run).method == "iv"


@pytest.mark.parametrize(
    ("slope", "level", "status"), [(1.0, -4.0, "supported"), (0.3, 0.0, "refuted"), (-0.4, 0.0, "refuted")]
)
def test_without_frequency_h2_is_read_from_the_pass_through(slope, level, status):
    result = evaluate(planted(slope, level), [H2])[0]
    assert result.status == status
    assert result.finding is not None
    assert result.finding.estimate.name.startswith("pass-through")


@pytest.mark.parametrize("frequency", [True, False])
def test_an_adapter_that_does_nothing_is_not_testable(frequency):
    result = evaluate(planted(1.0, silent=0.05, frequency=frequency), [H2])[0]
    assert result.status == "not testable"
    assert "less than a quarter" in result.reason


def test_an_adapter_no_better_than_the_null_is_not_testable():
    run = planted(1.0)
    delivered = run.readings[run.readings["condition"] == "as-delivered"]
    rng = np.random.default_rng(1)
    alike = delivered.assign(
        condition="null-other", adapter_margin=delivered["adapter_margin"] + rng.normal(size=len(delivered))
    )
    without = delivered.assign(condition="null-other", adapter_margin=0.0)
    for null, status in ((alike, "not testable"), (without, "supported")):
        rows = pd.concat([run.readings, null], ignore_index=True)
        assert evaluate(RunFrame(run.manifest, rows), [H2])[0].status == status


def test_another_wording_is_another_question_of_the_same_conflict():
    run = planted(1.0)
    rows = run.select("conflict", "as-delivered").iloc[:5].copy()
    rows["point"] = ["a", "a", "a", "a", "b"]
    rows["question"] = ["one", "one", "two", "three", "one"]
    rows["answer"] = ["x", "x", "x", "y", "x"]
    rows["prior_margin"] = [3.0, 3.0, 5.0, 7.0, 9.0]
    others, _ = pass_through.other_wordings(rows)
    np.testing.assert_array_equal(others, [5.0, 5.0, 3.0, np.nan, np.nan])
