"""Criterion, layers and outcomes against counts made another way."""

import numpy as np
import pytest

from override_gap.analyses import criterion
from override_gap.analyses import layers as localization
from override_gap.analyses import outcomes as interventions
from tests.simulate import simulate_readings


@pytest.fixture(scope="module")
def run():
    return simulate_readings(0, 40, 100, others=20, errors=2)


def test_criterion_cells_add_up(run):
    rows = {(row["condition"], row["measure"]): row for row in criterion.agreement(run)}
    row = rows["as-delivered", "top1"]
    under = run.select("conflict", "as-delivered")
    margin, top1 = under["success_margin"].astype(bool), under["success_top1"].astype(bool)
    assert row["third_token"] == (margin & ~top1).sum()
    assert row["true_override"] == (margin & top1).sum()
    assert row["without_criterion"] == 0
    assert row["value"] == pytest.approx((margin == top1).mean())
    assert ("in-context", "top1") not in rows


def test_outcomes_are_shares_and_skip_what_was_not_measured(run):
    rows = interventions.outcomes(run)
    keys = [(r["split"], r["tier"], r["condition"], r["measure"], r["population"]) for r in rows]
    assert len(set(keys)) == len(keys)
    found = dict(zip(keys, rows, strict=True))
    under = run.select("conflict", "slb")
    known = under[under["known"].astype(bool) & (under["tier"] == "deep")]
    row = found["conflict", "deep", "slb", "top1", "known"]
    assert row["value"] == pytest.approx(known["success_top1"].astype(float).mean())
    assert (row["n"], row["points"]) == (len(known), known["point"].nunique())
    assert ("conflict", None, "in-context", "margin", "all") not in found


def test_splits_count_items_with_errors(run):
    rows = interventions.by_split(run)
    conflict = [row for row in rows if row["split"] == "conflict"]
    assert sum(row["n"] for row in conflict) == 100
    assert sum(row["measured"] for row in conflict) == 98
    assert [row["tier"] for row in conflict] == ["light", "medium", "deep"]


def test_profile_means_and_the_sum_over_layers(run):
    found = localization.layers(run)
    assert [row["layer"] for row in found["profile"]] == list(range(-1, 8))
    total = sum(row["attribution_base"]["mean"] for row in found["profile"])
    assert total == pytest.approx(run.select("conflict", "base")["prior_margin"].astype(float).mean(), abs=1e-6)
    assert found["profile"][0]["norm"] is None


def test_norm_and_effect_are_set_against_each_other(run):
    found = localization.layers(run)
    assert found["norm_effect"]["effect"] == "alone"
    assert found["norm_effect"]["n"] == 8
    assert "largest effect in layer 7" in found["note"]
    inert = found["profile"][1 + 8 // 3]
    assert inert["alone"]["mean"] == pytest.approx(0)


def test_chosen_layers_are_those_with_gain(run):
    found = {(row["condition"], row["layer"]): row["share"] for row in localization.chosen(run)}
    assert found["slb", 7] == 1
    assert found["slb", 0] == 0
    assert not any(condition.startswith("uniform") for condition, _ in found)
    assert np.isclose(sum(share for (name, _), share in found.items() if name == "slb"), 2)


def test_the_best_layers_are_those_of_the_largest_effect(run):
    # the simulated effect is x ** 3 over depth, except for the inert third layer, which the norm puts second
    found = {row["condition"]: row for row in localization.choices(run)}
    weight = np.linspace(0.2, 1, 8) ** 3
    weight[2] = 0
    assert found["slb"]["best"] == [6, 7]
    assert found["slb"]["best_carried"] == pytest.approx(weight[6:].sum() / weight.sum())
    assert found["slb"]["chosen"] == [2, 7]
    assert found["slb"]["carried"] == pytest.approx(weight[found["slb"]["chosen"]].sum() / weight.sum())
    assert not any(name.startswith("uniform") for name in found)
