"""Own against null on rows of a search written by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from override_gap.analyses.nulls import null_comparisons
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.stats.intervals import mean
from override_gap.probes.store.schema import READINGS

OWN, NULL = "as-delivered", "null-other"


def run(rows: list[tuple]) -> RunFrame:
    """A run with these rows of the search: item, condition, gain, push, first, rank, broken."""
    names = ["item", "condition", "gain", "push", "success_top1", "rise_rank", "broken"]
    search = pd.DataFrame(rows, columns=names).assign(split="conflict", kl=0.1, kept=1.0)
    search["point"] = "p" + search["item"].str[1:]
    readings = pd.DataFrame(
        {"item": ["a1"], "condition": ["base"], "point": ["p1"], "split": ["conflict"], "status": ["ok"]}
    )
    manifest = {"conditions": ["base", *dict.fromkeys(search["condition"])]}
    return RunFrame(manifest, readings.reindex(columns=READINGS.names), search=search)


ROWS = [
    # held at 2; the null reaches the same push only at 4, where it is not compared
    ("a1", OWN, 1.0, 1.0, False, 0.9, False), ("a1", OWN, 2.0, 3.0, True, 0.99, False), ("a1", OWN, 4.0, 9.0, True, 1.0, False),
    ("a1", NULL, 1.0, 0.5, False, 0.2, False), ("a1", NULL, 2.0, 1.0, False, 0.2, False),
    ("a1", NULL, 4.0, 8.0, False, 0.2, False),
    # first, but so do other answers rise; the null is first without content as well
    ("a2", OWN, 1.0, 0.0, False, 0.5, False), ("a2", OWN, 2.0, 2.0, True, 0.6, False), ("a2", OWN, 8.0, 4.0, False, 0.6, False),
    ("a2", NULL, 1.0, 0.0, False, 0.5, False), ("a2", NULL, 8.0, 5.0, True, 0.94, False),
    # the null flips it only where the null's adapter breaks the model; gains read under one alone are not compared
    ("a3", OWN, 1.0, 1.0, False, 0.99, False), ("a3", OWN, 3.0, 4.0, True, None, False),
    ("a3", OWN, 1.5, 2.0, False, None, False),
    ("a3", NULL, 1.0, -1.0, False, 0.9, False), ("a3", NULL, 2.0, 7.0, False, 0.9, False),
    ("a3", NULL, 3.0, 9.0, True, 1.0, True),
    # read under its own adapter alone
    ("a4", OWN, 1.0, 1.0, True, 1.0, False),
]  # fmt: skip


def test_shares_and_pushes_by_hand() -> None:
    compared = null_comparisons(run(ROWS))
    assert compared is not None
    (row,) = compared.as_json()
    assert (row["condition"], row["n"], row["points"]) == (NULL, 3, 3)
    assert row["held"]["own"]["value"] == pytest.approx(2 / 3)
    assert row["held"]["null"]["value"] == 0.0
    assert row["held"]["difference"]["value"] == pytest.approx(2 / 3)
    assert row["rescued"]["own"]["value"] == 1.0
    assert row["rescued"]["null"]["value"] == pytest.approx(1 / 3)
    # at gains 2, 8 and 1: 3 - 1, 4 - 5, 1 - (-1)
    gaps = mean("", [2.0, -1.0, 2.0], ["p1", "p2", "p3"])
    assert row["push"]["difference"]["value"] == pytest.approx(1.0)
    assert row["push"]["difference"]["high"] == pytest.approx(gaps.high)
    assert row["push"]["median_gain"] == 2.0
    assert row["sentence"].startswith(
        "Searched in the same way, another document's adapter holds the document's answer on 0% of 3 failing conflicts, "
        "the item's own on 67%: a difference of 67 ["
    )


def test_a_null_that_is_the_own_adapter_differs_by_nothing() -> None:
    own = [row for row in ROWS if row[1] == OWN]
    compared = null_comparisons(run([*own, *((item, NULL, *rest) for item, _, *rest in own)]))
    assert compared is not None
    (row,) = compared.as_json()
    for key in ("held", "rescued", "push"):
        assert row[key]["difference"]["value"] == 0.0
        assert row[key]["own"] == {**row[key]["null"]}


def test_without_a_search_of_nulls_there_is_no_comparison() -> None:
    assert null_comparisons(run([row for row in ROWS if row[1] == OWN])) is None
    assert null_comparisons(RunFrame({}, run(ROWS).readings)) is None
