"""Results kept by content: the same as computed anew, told apart by all that they depend on, and computed once."""

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses import prior_gradient
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.stats import intervals
from override_gap.analyses.stats.by_content import by_content
from override_gap.analyses.stats.clusters import labelled, levels
from override_gap.analyses.summary import summarise
from tests.simulate import simulate_readings


def texts(*labels):
    return np.array(labels, dtype=object)


def counted(most=100):
    """A function of arrays that counts how often it is computed."""
    calls = []

    @by_content(most)
    def clusters_of(values, points, level=0.95):
        calls.append(level)
        return [part.codes.tolist() for part in levels(points)], float(values.sum()), level

    return clusters_of, calls


ONES = np.ones(3)
DIFFERENT = {
    "another value": (np.array([1.0, 1, 2]), texts("a", "b", "c")),
    "another type": (np.ones(3, dtype=np.int64), texts("a", "b", "c")),
    "other labels": (ONES, texts("a", "b", "b")),
    "labels that join alike": (ONES, texts("x", "x", "x\0x")),
    "and those they join like": (ONES, texts("x\0x", "x", "x")),
    "a relation": (ONES, labelled(texts("a", "b", "c"), texts("r", "r", "s"))),
    "another relation": (ONES, labelled(texts("a", "b", "c"), texts("r", "s", "s"))),
    "another setting": (ONES, texts("a", "b", "c"), 0.9),
}


def test_what_differs_in_anything_is_computed_for_itself():
    function, calls = counted()
    every = [(ONES, texts("a", "b", "c")), *DIFFERENT.values()]
    for _ in range(2):
        for arguments in every:
            assert function(*arguments) == function.__wrapped__(*arguments)
    assert len(calls) == 3 * len(every)  # once kept, and twice for the comparison


@pytest.mark.parametrize("labels", [np.array([1, 2, 2], dtype=object), np.array(["a", 2, 2], dtype=object)])
def test_labels_that_are_no_texts_are_computed_anew(labels):
    function, calls = counted()
    assert function(ONES, labels) == function(ONES, labels)
    assert len(calls) == 2


def test_only_the_last_results_are_kept():
    function, calls = counted(most=2)
    for number in (1, 2, 3, 3, 2, 1):
        function(ONES * number, texts("a", "b", "c"))
    assert len(calls) == 4  # the first was dropped for the third


def test_a_share_has_its_own_name_whichever_came_first():
    success, points = [1, 0, 1, 1], [1, 2, 3, 4]
    first, second = (intervals.proportion(name, success, texts(*map(str, points))) for name in ("one", "other"))
    assert (first.name, second.name) == ("one", "other")
    assert first.as_json() == second.as_json()


@pytest.fixture(scope="module")
def run():
    found = simulate_readings(1, conditions=("base", "as-delivered", "uniform-2"))
    twin = found.readings[found.readings["condition"] == "uniform-2"].assign(condition="uniform-2.001")
    return RunFrame({}, pd.concat([found.readings, twin], ignore_index=True))


def test_a_condition_that_succeeds_on_the_same_items_is_not_computed_again(run, monkeypatch):
    prior_gradient.by_condition(run)  # whatever is known of it
    computed, resampled = [], prior_gradient.resampled
    monkeypatch.setattr(prior_gradient, "resampled", lambda *given: computed.append(1) or resampled(*given))
    rows = run.readings.assign(prior_logprob=run.readings["prior_logprob"] - 0.125)
    moved = {gradient.condition: gradient for gradient in prior_gradient.by_condition(RunFrame({}, rows))}
    assert moved["uniform-2.001"].as_json() == moved["uniform-2"].as_json() | {"condition": "uniform-2.001"}
    alone = RunFrame({}, rows[rows["condition"] != "uniform-2.001"])
    assert 0 < len(computed) <= 3 * 2 * len(alone.conditions)


def test_what_takes_long_is_said_of_many_conditions_and_not_of_few(run, monkeypatch):
    said = []
    monkeypatch.setattr("override_gap.analyses.summary.LONG", 1e9)
    summary = summarise(run, say=said.append)
    assert said == []
    monkeypatch.setattr("override_gap.analyses.summary.MANY", 3)
    assert summarise(run, say=said.append) == summary
    assert said[:2] == [f"computing the statistics: {part} of 4 conditions" for part in ("outcomes", "prior_gradient")]
    said.clear()
    monkeypatch.setattr("override_gap.analyses.summary.MANY", 100)
    monkeypatch.setattr("override_gap.analyses.summary.LONG", 0.0)
    assert summarise(run, say=said.append) == summary  # few conditions, but long: with the time that it has taken
    seconds = [int(line.removesuffix(" s").rsplit(", ", 1)[1]) for line in said]
    assert seconds == sorted(seconds)
    assert len(said) > 4
