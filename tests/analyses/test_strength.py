"""Strength against hand-worked values, and the interval of a ratio of means against a known truth."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.readings import RunFrame
from override_gap.analyses.strength import censored_quantile, gain_text, margin_ratio, strength
from override_gap.probes.store.schema import READINGS


def readings(prior: list[float], adapter: list[float], points: list[str] | None = None) -> pd.DataFrame:
    """Known conflicts under the base and as delivered."""
    rows = []
    for n, (p, a) in enumerate(zip(prior, adapter, strict=True)):
        for condition, margin in (("base", 0.0), ("as-delivered", a)):
            rows.append(
                {
                    "item": f"i{n}",
                    "point": points[n] if points else f"p{n}",
                    "split": "conflict",
                    "condition": condition,
                    "known": True,
                    "prior_margin": p,
                    "adapter_margin": margin,
                    "document": f"d{n // 2}",
                    "status": "ok",
                }
            )
    return pd.DataFrame(rows).reindex(columns=READINGS.names)


def test_margins_by_hand() -> None:
    found = strength(RunFrame({}, readings([2.0, 4.0, 10.0], [1.0, 4.0, 2.0])))
    assert found is not None
    ratios = found["adapter_over_prior"]
    assert ratios["mean_of_ratios"]["value"] == pytest.approx((0.5 + 1.0 + 0.2) / 3)
    assert ratios["ratio_of_means"]["value"] == pytest.approx(7 / 16)
    # residuals a - R p: 1 - 7/8, 4 - 7/4, 2 - 70/16; variance of the mean: 3/2 of the sum of squares over 9 (16/3)^2
    residuals = [1 - 7 / 8, 4 - 7 / 4, 2 - 70 / 16]
    se = math.sqrt(3 / 2 * sum(r * r for r in residuals) / 9) / (16 / 3)
    assert ratios["ratio_of_means"]["high"] == pytest.approx(7 / 16 + 4.302653 * se, rel=1e-5)
    assert found["update_over_weight"] is None
    assert found["gain_to_break"] is None


def test_items_without_a_positive_prior_margin_have_no_ratio() -> None:
    found = strength(RunFrame({}, readings([2.0, -1.0, 0.0], [1.0, 5.0, 5.0])))
    assert found is not None
    assert found["adapter_over_prior"]["mean_of_ratios"]["n"] == 1
    assert strength(RunFrame({}, readings([-1.0], [5.0]))) is None


def test_the_interval_of_the_ratio_of_means_covers() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        size = rng.integers(1, 5, 60)
        point = np.repeat(np.arange(60), size)
        prior = np.exp(rng.normal(1.0, 0.5, 60))[point] + rng.exponential(0.2, len(point))
        adapter = 0.3 * prior + rng.normal(0.5, 0.5, 60)[point] + rng.normal(0, 0.3, len(point))
        rows = pd.DataFrame({"prior_margin": prior, "adapter_margin": adapter, "point": point.astype(str)})
        found = margin_ratio(rows)["ratio_of_means"]
        truth = 0.3 + 0.5 / (math.exp(1.125) + 0.2)
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 400 <= 0.98


def test_update_over_weight_by_hand() -> None:
    rows = readings([2.0] * 4, [1.0] * 4)
    layers = [
        {"item": item, "point": "p", "split": "conflict", "condition": "as-delivered", "layer": layer, "norm": norm,
         "weight_norm": weight}
        for item, norms in (("i0", (3.0, 4.0)), ("i1", (3.0, 4.0)), ("i2", (1.0, 0.0)), ("i3", (9.0, 9.0)))
        for layer, norm, weight in zip((0, 1), norms, (30.0, 40.0), strict=True)
    ]  # fmt: skip
    layers += [{**row, "condition": "base", "norm": 99.0} for row in layers]
    found = strength(RunFrame({}, rows, pd.DataFrame(layers)))
    assert found is not None
    # i1 and i3 ask about the documents of i0 and i2
    ratios = found["update_over_weight"]
    assert [row["value"] for row in ratios["layers"]] == pytest.approx([(0.1 + 1 / 30) / 2, (0.1 + 0.0) / 2])
    assert ratios["all"]["value"] == pytest.approx((5 / 50 + 1 / 50) / 2)
    assert ratios["all"]["n"] == 2


def test_quartiles_of_censored_gains_by_hand() -> None:
    nan = math.nan
    quartile = censored_quantile(np.array([4.0, 8.0, nan, 16.0]), np.array([4.0, 8.0, 32.0, 16.0]), 0.5)
    assert quartile == {"share": 0.5, "value": 8.0, "at_least": False}
    # one ended at 6 unbroken: it may lie anywhere above, so the median is 8 or more
    early = censored_quantile(np.array([4.0, 8.0, nan, 16.0]), np.array([4.0, 8.0, 6.0, 16.0]), 0.75)
    assert early == {"share": 0.75, "value": 8.0, "at_least": True}
    assert gain_text(early) == "above 8"
    none = censored_quantile(np.array([nan, nan]), np.array([4.0, 4096.0]), 0.5)
    assert none == {"share": 0.5, "value": 4.0, "at_least": True}


@pytest.mark.parametrize("seed", range(10))
def test_a_censored_quantile_is_exact_or_below_the_true_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, ended = 2.0 ** rng.integers(0, 8, 41), 2.0 ** rng.integers(0, 10, 41)
    seen = np.where(true <= ended, true, math.nan)
    for share in (0.25, 0.5, 0.75):
        quartile = censored_quantile(seen, np.where(np.isnan(seen), ended, seen), share)
        exact = sorted(true)[math.ceil(share * 41) - 1]
        assert quartile["value"] <= exact
        assert quartile["at_least"] or quartile["value"] == exact


def test_the_gain_to_break_is_that_of_documents_under_their_own_adapter() -> None:
    rows = [
        ("i0", "as-delivered", 1.0, False), ("i0", "as-delivered", 2.0, True),
        ("i1", "as-delivered", 4.0, True),  # the same document
        ("i2", "as-delivered", 8.0, False),
        ("i2", "null-other", 1.5, True),
        ("i4", "as-delivered", 0.5, True), ("i4", "as-delivered", 16.0, True),
    ]  # fmt: skip
    search = pd.DataFrame(rows, columns=["item", "condition", "gain", "broken"])
    found = strength(RunFrame({}, readings([2.0] * 5, [1.0] * 5), search=search))
    assert found is not None
    breaking = found["gain_to_break"]
    assert (breaking["documents"], breaking["broken"]) == (3, 2)
    assert [q["value"] for q in breaking["quartiles"]] == [2.0, 8.0, 16.0]
    assert [q["at_least"] for q in breaking["quartiles"]] == [False, True, True]
