"""A gradient that another variable makes goes when it is adjusted for; one that prior strength makes stays."""

import numpy as np
import pytest

from override_gap.analyses import adjusted_gradient
from override_gap.analyses.hypothesis_tests.prior_strength import adjusted_sentence
from override_gap.analyses.readings import RunFrame
from tests.simulate import simulate_readings


def confounded(of_strength, of_doc, seed=0, relations=False, prompt=None):
    """Failure and net margin made of prior strength and log P(y_doc), which correlate by 0.7."""
    run = simulate_readings(0, points=300, questions=600, conditions=("base", "as-delivered", "in-context"), others=0,
                            with_layers=False)  # fmt: skip
    rng = np.random.default_rng(seed)
    items = run.readings["item"].unique()
    strength, scatter = rng.normal(size=(2, len(items)))
    doc = 0.7 * strength + np.sqrt(0.51) * rng.normal(size=len(items))
    relation = rng.integers(12, size=len(items))
    effect = rng.normal(size=12)
    if relations:
        strength = strength + 2 * effect[relation]
    score = of_strength * strength + of_doc * doc + 2 * relations * effect[relation]
    rows = run.readings.copy()
    place = rows["item"].map({item: n for n, item in enumerate(items)}).to_numpy()
    rows["prior_logprob"], rows["prior_logprob_per_token"] = strength[place] - 9, strength[place] - 9
    rows["doc_logprob"] = doc[place] - 9
    rows["net_margin"] = -(score + scatter)[place]
    if prompt is not None:
        under = rows["condition"].to_numpy() == "in-context"
        rows.loc[under, "net_margin"] = -(prompt * strength + scatter)[place][under]
    rows["success_top1"] = rows["net_margin"] > 0
    rows["relation"] = [f"r{r}" for r in relation[place]] if relations else None
    return RunFrame(run.manifest, rows)


def slopes(run):
    """Slope on prior strength by outcome and what is adjusted for, over all conflicts."""
    rows = adjusted_gradient.regressions(run)
    return {(row.outcome, row.adjusted_for): row for row in rows if row.population == "all"}


def test_a_gradient_of_log_p_doc_alone_goes():
    found = slopes(confounded(0.0, 1.0, seed=1))
    assert found["failure", ()].agrees
    assert found["net_margin", ()].agrees
    for outcome in ("failure", "net_margin"):
        slope = found[outcome, ("doc_logprob",)].slope
        assert slope.low < 0 < slope.high


def test_a_gradient_that_was_hidden_turns():
    found = slopes(confounded(0.5, -1.2))
    assert found["failure", ()].reverses
    assert found["failure", ("doc_logprob",)].agrees
    # The net margin is -0.5 strength by construction, and strength has standard deviation 1.
    assert found["net_margin", ("doc_logprob",)].slope.value == pytest.approx(-0.5, abs=0.15)


def test_relations_alone_make_no_gradient_within_them():
    found = slopes(confounded(0.0, 0.0, relations=True, seed=1))
    assert found["net_margin", ()].slope.value < -0.5
    within = found["net_margin", ("doc_logprob", "relation")].slope
    assert within.low < 0 < within.high


def test_the_difference_to_the_prompt_is_paired():
    section = adjusted_gradient.in_context(confounded(1.0, 0.0, prompt=0.4))
    assert section is not None
    row = next(
        row
        for row in section["slopes"]
        if (row["outcome"], row["population"], row["adjusted_for"]) == ("net_margin", "all", [])
    )
    # Both conditions share their scatter, so the difference is -0.6 exactly, per standard deviation.
    assert row["difference"]["value"] == pytest.approx(-0.6, abs=0.05)
    own = row["adapter"]["high"] - row["adapter"]["low"]
    assert row["difference"]["high"] - row["difference"]["low"] < own / 2


def test_few_failures_allow_few_covariates():
    run = confounded(0.3, 0.0)
    of = adjusted_gradient.data(run)
    of.covariates.update({"prior_tokens": np.arange(600.0), "answer_tokens": np.arange(600.0) % 7})
    of.left_out.pop("prior_tokens", None), of.left_out.pop("answer_tokens", None)
    of.failure[:] = 0.0
    of.failure[:25] = 1.0
    enter, left_out = adjusted_gradient.entering(of, "failure")
    assert enter == ["doc_logprob"]
    assert "25 failures" in left_out["answer_tokens"]
    assert set(adjusted_gradient.entering(of, "net_margin")[0]) >= {"doc_logprob", "prior_tokens", "answer_tokens"}


def test_the_hypothesis_says_in_words_what_adjusting_does():
    words = {
        "firmly held facts resist more": confounded(0.8, 0.0, seed=1),
        "the interval holds 0": confounded(0.0, 1.0, seed=1),
        "the sign is the opposite": confounded(-0.8, 1.5, seed=1),
    }
    for expected, run in words.items():
        assert expected in adjusted_sentence(run)
