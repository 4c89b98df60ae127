"""What the item explorer knows of an item: its cause of failure as the verdict counts it, and the fields of its meta."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest

from override_gap.analyses.causes import causes
from override_gap.analyses.verdict import verdict
from override_gap.reports.page.explorer import DIGITS, explorer
from override_gap.reports.page.explorer_items import meta_fields
from tests.analyses.searched import gain_rows, searched_run
from tests.reports.reader import decoded

GAINS = (1, 1.5, 2, 3, 4)
CAUSES = {
    "too weak": lambda i: gain_rows(i, GAINS[:3], (-2, -1, 0.5), kl=0.01),
    "no content": lambda i: gain_rows(i, GAINS, (-2, -1.8, -1.5, -1, 0.5), rank=0.6, broken_at=6),
    "broken first": lambda i: gain_rows(i, (1, 2, 4), (-9, -8, -6), broken_at=6),
}


def test_the_cause_of_an_item_is_the_one_that_the_verdict_counts():
    names = list(CAUSES)
    run = searched_run({n: CAUSES[names[n % 3]] for n in range(40)})
    shown = decoded(explorer(run, {}))
    counted = verdict(run).as_json()["causes"]
    assert Counter(row["cause"] for row in shown.values() if row["cause"]) == {
        row["cause"]: row["count"] for row in counted
    }
    found = causes(run)
    assert found is not None
    for item, cause, gain in zip(found.items["item"], found.items["cause"], found.items["gain"], strict=True):
        assert shown[item]["cause"] == cause
        assert shown[item]["repair_gain"] == (gain if cause == "too weak" else None)


def test_a_run_without_a_search_has_no_causes(run):
    assert "cause" not in explorer(run, {})["items"]


META = [
    {"era": "old", "sure": True, "views": 12, "mixed": 1, "wording": "plain", "frequency": 3, "none": None},
    {"era": "new", "sure": False, "views": 0.5, "mixed": "one", "path": ["a", "b"], "__proto__": {"x": 1}},
]


def stored(texts):
    return pd.DataFrame({"item": [f"i{n}" for n in range(len(texts))], "meta": texts})


def test_fields_of_meta_are_read_from_the_stored_object_each_as_one_kind():
    found = {
        field["name"]: field
        for field in meta_fields(stored([json.dumps(meta) for meta in META]), ["i1", "i0", "absent"])
    }
    assert {name: (field["kind"], field["values"]) for name, field in found.items()} == {
        "era": ("text", ["new", "old", None]),
        "sure": ("true or false", [False, True, None]),
        "views": ("numbers", [0.5, 12, None]),
        "mixed": ("text", ["one", "1", None]),
        "path": ("text", ['["a", "b"]', None, None]),
        "__proto__": ("text", ['{"x": 1}', None, None]),
    }


@pytest.mark.parametrize("text", ["no json", "[1]", "[" * 100_000, "NaN", '"x"'])
def test_a_meta_that_is_no_object_has_no_fields(text):
    assert meta_fields(stored([text]), ["i0"]) == []


def test_a_run_of_an_earlier_version_has_the_fields_that_are_columns():
    rows = pd.DataFrame({"item": ["a", "b"], "relation": ["home", None], "kind": [None, None]})
    assert meta_fields(rows, ["a", "b"]) == [{"name": "relation", "kind": "text", "values": ["home", None]}]


def test_a_number_that_is_no_number_and_a_lone_surrogate_reach_the_page_as_json(run):
    rows = run.readings.assign(meta='{"a": NaN, "b": "\\ud800", "c": 1e999}')
    data = explorer(replace(run, readings=rows), {})
    fields = {field["name"]: field["values"][0] for field in data["meta"]}
    assert (fields["a"], fields["c"]) == (None, "inf")
    json.dumps(data, allow_nan=False).encode()


def test_numbers_have_as_many_digits_as_a_float32(run):
    shown = decoded(explorer(run, {}))
    for row in run.readings.query("status == 'ok'").iloc[::97].itertuples():
        own = shown[row.item]["net_margin", row.condition]
        if own is not None:
            assert own == pytest.approx(row.net_margin, rel=0.6 * 10.0 ** (1 - DIGITS))
