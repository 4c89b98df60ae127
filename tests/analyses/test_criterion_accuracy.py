"""H3 in words and on first tokens, where one of its two directions cannot fail."""

from __future__ import annotations

import pandas as pd
import pytest
from scipy import stats

from override_gap.analyses.hypothesis import Finding
from override_gap.analyses.hypothesis_tests.criterion_accuracy import criterion_predicts
from override_gap.analyses.readings import RunFrame


def run_of(said: int, of: int, silent: int, *, words: bool) -> RunFrame:
    """`said` of the `of` conflicts with a positive margin say the answer, and none of `silent` others; each its own point."""
    margins = ("prior_logprob", "prior_margin", "push", "pull", "adapter_margin", "net_margin")
    rows = [
        {"item": f"c{n}", "point": f"p{n}", "success_margin": n < of, "success_top1": n < said,
         "success_answer": n < said if words else None}
        for n in range(of + silent)
    ]  # fmt: skip
    frame = pd.DataFrame(rows).assign(
        split="conflict", condition="as-delivered", known=True, status="ok", error=None, **dict.fromkeys(margins, 0.0)
    )
    return RunFrame({"conditions": ["base", "as-delivered"]}, frame)


def finding(run: RunFrame) -> Finding:
    found = criterion_predicts(run)
    assert isinstance(found, Finding), found
    return found


def test_items_on_which_first_tokens_cannot_fail_do_not_count_for_it() -> None:
    """60% of what the criterion promises is said: balanced accuracy would be 80% by the no side alone."""
    found = finding(run_of(60, 100, 400, words=False))
    assert found.estimate.value == pytest.approx(0.6)
    assert found.estimate.n == 100
    exact = stats.binomtest(60, 100, 0.8, alternative="less").pvalue
    assert found.against < 1e-3
    assert exact < 1e-3
    assert "only P(first token | criterion) is tested" in found.effect
    assert finding(run_of(60, 100, 10, words=False)).against == pytest.approx(found.against)


def test_in_words_both_directions_count() -> None:
    found = finding(run_of(60, 100, 100, words=True))
    assert found.estimate.name == "balanced accuracy against answer"
    assert found.estimate.value == pytest.approx((0.6 + 1.0) / 2)


def test_both_intervals_stand_beside_the_one_that_is_read() -> None:
    """By point it is the interval of the same run without relations; ten relations that differ widen what is read."""
    run = run_of(60, 100, 100, words=True)
    number = run.readings["item"].str.removeprefix("c").astype(int)
    related = finding(
        RunFrame(run.manifest, run.readings.assign(cluster="r" + (number % 100 // 10).astype(str)))
    ).estimate
    alone = finding(run).estimate
    assert alone.by_point is None
    assert related.clusters == 10
    assert related.by_point == pytest.approx((alone.low, alone.high))
    assert related.by_cluster[0] < alone.low - 0.03, (
        "six relations say all that the criterion promises, four say nothing"
    )
    assert related.low <= min(related.by_point[0], related.by_cluster[0]) + 1e-12
    assert related.high >= max(related.by_point[1], related.by_cluster[1]) - 1e-12


def test_a_criterion_that_never_says_yes_cannot_be_tested_on_first_tokens() -> None:
    found = criterion_predicts(run_of(2, 3, 100, words=False))
    assert isinstance(found, str)
    assert "on first tokens it cannot fail where it says no" in found
