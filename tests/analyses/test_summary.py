"""The whole summary: its keys, its cleanness, and data that have broken others."""

import json

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses import Estimate
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.summary import summarise
from tests.simulate import simulate_readings

KEYS = [
    "schema",
    "subject",
    "adapters",
    "items",
    "outcomes",
    "prior_gradient",
    "margins",
    "criterion",
    "layers",
    "dose",
    "matched_retention",
    "hypotheses",
    "verdict",
    "errors",
    "timing",
    "notes",
]
FEW = ("base", "as-delivered", "uniform-2", "slb")


def numbers(thing, path=""):
    """Every estimate in a summary, with its path."""
    if isinstance(thing, dict):
        if {"value", "low", "high", "n", "points"} <= set(thing):
            yield path, thing
        for key, value in thing.items():
            yield from numbers(value, f"{path}.{key}")
    elif isinstance(thing, list):
        for place, value in enumerate(thing):
            yield from numbers(value, f"{path}[{place}]")


def checked(run):
    """Summarise, insist on JSON without NaN and on ordered intervals."""
    summary = summarise(run)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert set(KEYS) <= set(summary)
    for path, row in numbers(summary):
        if row["value"] is not None and row["low"] is not None and row["high"] is not None:
            assert row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9, (path, row)
        if row["points"] < 2 and "norm_effect" not in path:
            assert (row["low"], row["high"]) == (None, None), (path, row)
    return summary


def test_full_run_is_clean_and_deterministic():
    run = simulate_readings(0, others=153, errors=3)
    summary = checked(run)
    assert summary == summarise(run)
    # one wording, no variant, and no probe of the mechanism or of belief
    assert sorted(summary["notes"]) == [
        "belief",
        "components",
        "gain_path",
        "geometry",
        "geometry_effects",
        "neutral",
        "prior_dose",
        "robustness",
    ]
    assert summary["errors"] == {
        "count": 3,
        "by_reason": [{"reason": "the answers share all their tokens", "count": 3}],
    }
    assert summary["items"]["excluded"] == 3
    assert summary["prior_gradient"]["gap"]["value"] > 0.6


def altered(**columns):
    run = simulate_readings(0, 20, 50, conditions=FEW, others=20)
    return RunFrame(run.manifest, run.readings.assign(**columns), run.layers)


ODD = {
    "one point": lambda: simulate_readings(0, 1, 12, conditions=FEW, others=2),
    "one item": lambda: simulate_readings(0, 1, 1, conditions=FEW, others=0),
    "two items": lambda: simulate_readings(0, 2, 2, conditions=FEW, others=1),
    "ten items": lambda: simulate_readings(0, 6, 10, conditions=FEW, others=4),
    "all succeed": lambda: altered(success_top1=True, success_margin=True, success_answer=True),
    "all fail": lambda: altered(success_top1=False, success_margin=False, success_answer=False),
    "no answers": lambda: altered(success_answer=None, success_answer_substring=None),
    "ties": lambda: altered(prior_logprob=-1.0),
    "no critical gain": lambda: altered(critical_gain=None, critical_gain_predicted=None),
    "nothing known": lambda: altered(known=False),
    "no conflicts": lambda: RunFrame(
        {}, (r := simulate_readings(0, 5, 9, conditions=FEW, others=20)).readings.query("split != 'conflict'"), r.layers
    ),
    "base only": lambda: simulate_readings(0, 20, 50, conditions=("base",), others=10),
    "no base": lambda: simulate_readings(0, 20, 50, conditions=("as-delivered", "slb"), others=10),
    "no layers": lambda: simulate_readings(0, 20, 50, conditions=FEW, with_layers=False),
    "all errors": lambda: simulate_readings(0, 5, 9, conditions=FEW, others=0, errors=9),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_data_give_nulls_and_notes(name):
    summary = checked(ODD[name]())
    assert summary["verdict"]["label"]
    for key in ("prior_gradient", "margins", "layers", "dose", "matched_retention"):
        assert (summary[key] is None) == (key in summary["notes"])


def test_few_items_have_null_quartiles():
    summary = checked(simulate_readings(0, 6, 10, conditions=FEW, others=4))
    assert all(row["value"] is None and "fewer than 4" in row["note"] for row in summary["prior_gradient"]["quartiles"])
    assert summary["prior_gradient"]["gap"]["value"] is None


def test_the_order_of_rows_does_not_matter():
    run = simulate_readings(4, 20, 50, conditions=FEW, others=20)
    order = np.random.default_rng(0).permutation(len(run.readings))
    mixed = RunFrame(run.manifest, run.readings.iloc[order].reset_index(drop=True), run.layers)
    one, other = summarise(run), summarise(mixed)
    for key in ("outcomes", "prior_gradient", "verdict", "dose"):
        assert one[key] == other[key]


def test_an_estimate_speaks_for_itself():
    found = Estimate("gap", 0.52, 0.3, 0.7, 97, 60, "points", caveats=("a <note>",))
    assert str(found) == "gap 0.52 [0.3, 0.7] points, n=97, points=60\n  note: a <note>"
    assert "&lt;note&gt;" in found._repr_html_()
    assert Estimate("", np.inf, np.nan, 1, 1, 1).as_json() == {
        "value": None,
        "low": None,
        "high": 1.0,
        "n": 1,
        "points": 1,
    }


def test_pandas_nulls_of_every_kind_are_nulls():
    run = simulate_readings(0, 20, 50, conditions=FEW, others=20)
    answers = run.readings["success_answer"].astype("boolean")
    answers[::2] = pd.NA
    summary = checked(RunFrame(run.manifest, run.readings.assign(success_answer=answers), run.layers))
    rows = [row for row in summary["outcomes"] if row["measure"] == "answer" and row["tier"] is None]
    assert rows
    assert all(row["n"] < 50 for row in rows)
