"""The price of a method against values worked by hand from rows that state them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from override_gap.analyses.price import Price, mean_kl, price
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.searched import bounded
from override_gap.analyses.stats.estimate import Estimate

Rows = dict[str, list[tuple[bool, float]]]


def run_of(conditions: Rows, split: str = "retention", conflicts: Rows | None = None) -> RunFrame:
    """One row per condition and item, each item a point of its own: (answer kept, kl); of conflicts (document's answer, kl)."""
    rows = [
        {"item": f"{of[0]}{n}", "point": f"{of[0]}{n}", "split": of, "condition": name, "known": True, "status": "ok",
         "error": None, "success_top1": kept, "success_margin": kept, "kl": kl,
         **dict.fromkeys(("prior_logprob", "prior_margin", "push", "pull", "adapter_margin", "net_margin"), 0.0)}
        for of, each in ((split, conditions), ("conflict", conflicts or {}))
        for name, items in each.items() for n, (kept, kl) in enumerate(items)
    ]  # fmt: skip
    return RunFrame({"conditions": list(conditions)}, pd.DataFrame(rows))


def price_of(conditions: Rows) -> Price:
    found = price(run_of(conditions))
    assert found is not None
    return found


def gain_of(found: Price) -> float | None:
    return found.affordable_gain and found.affordable_gain.gain


def items(kept: int, kl: float, of: int = 20) -> list[tuple[bool, float]]:
    return [(n < kept, kl) for n in range(of)]


def test_mean_and_interval_by_hand():
    kls = [0.0, 0.1, 0.4, 0.1, 0.9]
    found = mean_kl(run_of({"as-delivered": [(True, kl) for kl in kls]}))
    assert found is not None
    half = stats.t.ppf(0.975, 4) * np.std(kls, ddof=1) / math.sqrt(5)
    assert found.value == pytest.approx(0.3)
    assert found.low == 0.0, "0.3 minus the half width is below 0, which no divergence is"
    assert found.high == pytest.approx(0.3 + half, rel=0.05)


def test_the_largest_gain_within_both_bounds_with_none_below_it_outside():
    conditions = {
        "base": items(20, 0.0), "uniform-0.5": items(20, 0.02), "as-delivered": items(19, 0.2),
        "uniform-1.5": items(18, 0.24), "uniform-2": items(20, 0.1),
    }  # fmt: skip
    found = price_of(conditions)
    assert [row.affordable for row in found.rows] == [True, True, True, False, True]
    assert gain_of(found) == 1.0, "gain 1.5 loses two of twenty, so that gain 2 behind it is luck"
    assert "smaller" not in found.sentence
    assert found.sentence.startswith("Price as delivered: 95% ")
    assert "KL to the base 0.20" in found.sentence


def test_an_adapter_three_times_too_strong_states_its_price_and_what_costs_less():
    rows = {"base": items(20, 0.0), "uniform-0.25": items(20, 0.05), "uniform-0.5": items(18, 0.3),
            "as-delivered": items(9, 1.4)}  # fmt: skip
    won = {
        "base": items(0, 0.0),
        "uniform-0.25": items(14, 0.0),
        "uniform-0.5": items(17, 0.0),
        "as-delivered": items(20, 0.0),
    }
    found = price(run_of(rows, conflicts=won))
    assert found is not None
    assert gain_of(found) == 0.25
    assert "45% " in found.sentence
    assert "KL to the base 1.40" in found.sentence
    assert "at gain 0.25 it is: 100%" in found.sentence
    assert "and the document's answer first on 70% [" in found.sentence
    assert [row["override"]["value"] for row in found.as_json()["gains"]] == [0, 14 / 20, 17 / 20, 1]
    assert found.as_json()["affordable_gain"] == 0.25


def test_answers_that_stay_at_a_high_kl_are_not_affordable():
    """Yes or no on the first choice sees nothing of it."""
    found = price_of({"base": items(20, 0.0), "as-delivered": items(20, 0.6)})
    assert found.affordable_gain is None
    assert "no smaller gain was read (name uniform-0.5 and uniform-0.25 in --policies)" in found.sentence
    smaller = price_of({"uniform-0.5": items(20, 0.4), "as-delivered": items(20, 0.6)})
    assert "nor is gain 0.5, the smallest that was read: 100%" in smaller.sentence
    assert "uniform-0.25 in --policies would be the next to try" in smaller.sentence


def test_a_run_of_before_the_column_has_retention_alone():
    found = price_of({"base": items(20, math.nan), "as-delivered": items(20, math.nan)})
    assert [row.kl for row in found.rows] == [None, None]
    assert gain_of(found) == 1.0
    assert "KL" not in found.sentence


def test_without_retention_items_there_is_no_price():
    assert price(run_of({"as-delivered": items(20, 0.1)}, split="novel")) is None


def test_without_clusters_no_bound_of_a_kl_is_shown():
    """One unrelated question has a mean and no interval; its lower bound was given as 0, as if it had been measured."""
    found = price_of({"base": [(True, 0.0)], "as-delivered": [(True, 0.3)]}).delivered
    assert found is not None
    assert found.kl is not None
    stated = found.kl.as_json()
    assert (stated["value"], stated["low"], stated["high"]) == (0.3, None, None)
    assert "[" not in str(found)
    several = bounded(Estimate("KL", 0.3, math.nan, math.nan, 1, 1), np.inf)
    assert np.isnan([several.low, several.high]).all()
