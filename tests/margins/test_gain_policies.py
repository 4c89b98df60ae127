"""Policies: worked examples, and the laws the controls must obey."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from override_gap.margins.attribution import predicted_critical_gain
from override_gap.margins.condition_parser import parse_conditions
from override_gap.margins.effect import effect
from override_gap.margins.gain_policies import (
    BottomNorm,
    ConflictAware,
    EffectGated,
    MarginMatched,
    PolicyInputs,
    RandomLayers,
    RandomMatched,
    RelevanceGate,
    TopNorm,
    Uniform,
    looks_at_question,
    probe_gain,
    refusal,
)

NORMS = torch.tensor([0.1, 0.9, 0.2, 0.8, 0.3, 0.4, 0.5, 0.6])


def test_slb_boosts_the_top_quarter_by_norm() -> None:
    assert TopNorm()(PolicyInputs(NORMS)).tolist() == [1, 1.75, 1, 1.75, 1, 1, 1, 1]
    assert BottomNorm()(PolicyInputs(NORMS)).tolist() == [1.75, 1, 1.75, 1, 1, 1, 1, 1]


def test_layers_without_an_update_are_never_boosted() -> None:
    norms = torch.tensor([0.0, 0.0, 0.0, 0.5, 0.0, 0.7, 0.0, 0.0])
    for policy in (TopNorm(share=0.5), BottomNorm(share=0.5), RandomLayers(share=0.5)):
        gains = policy(PolicyInputs(norms))
        assert ((gains != 1).nonzero().flatten()).tolist() in ([3], [5])


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=40), st.integers(0, 2**31), st.floats(0.05, 1))
def test_controls_match_count_or_added_norm(norms: list[float], seed: int, share: float) -> None:
    inputs = PolicyInputs(torch.tensor(norms), seed=seed)
    top, random, matched = (p(share=share)(inputs) for p in (TopNorm, RandomLayers, RandomMatched))
    assert (top != 1).sum() == (random != 1).sum()
    added = [torch.linalg.norm((gains - 1) * inputs.norms).item() for gains in (top, matched)]
    assert added[1] == pytest.approx(added[0], rel=1e-3)
    assert torch.equal(RandomLayers(share=share)(inputs), random)


def test_conflict_aware_boosts_only_where_the_base_is_sure_and_disagrees() -> None:
    sure, unsure = PolicyInputs(NORMS, base_top_prob=0.9), PolicyInputs(NORMS, base_top_prob=0.4)
    agrees = PolicyInputs(NORMS, base_top_prob=0.9, base_says_document=True)
    assert ConflictAware()(sure).tolist() == [1, 2, 1, 2, 1, 1, 1, 2]
    for inputs in (unsure, agrees):
        assert ConflictAware()(inputs).tolist() == [1] * 8
        assert ConflictAware(otherwise=TopNorm())(inputs).tolist() == TopNorm()(inputs).tolist()


def test_relevance_gate_sets_gain_0_where_the_document_is_irrelevant() -> None:
    assert RelevanceGate(Uniform(1.5))(PolicyInputs(NORMS)).tolist() == [1.5] * 8
    assert RelevanceGate(Uniform(1.5))(PolicyInputs(NORMS, relevant=False)).tolist() == [0] * 8


@pytest.mark.parametrize(
    ("prior", "adapter", "gain"),
    [(4, 3, 2.0), (4, 100, 0.06), (9, 1, 3.0), (4, -1, 3.0), (-5, 2, 0.0), (math.nan, 1, 1.0)],
)
def test_margin_matched_is_the_smallest_gain_with_headroom(prior: float, adapter: float, gain: float) -> None:
    gains = MarginMatched(headroom=2, highest=3)(PolicyInputs(NORMS, prior_margin=prior, adapter_margin=adapter))
    assert gains.tolist() == pytest.approx([gain] * 8)


@pytest.mark.parametrize(("prior", "adapter", "gain"), [(4, 2, 2), (4, -2, math.inf), (-1, 2, 0), (4, 0, math.inf)])
def test_predicted_critical_gain(prior: float, adapter: float, gain: float) -> None:
    assert predicted_critical_gain(prior, adapter) == gain


def test_conditions_by_name() -> None:
    names = [c.name for c in parse_conditions("as-delivered, slb-2.0-33,uniform-1.50,logit-fusion,slb-2.0-33")]
    assert names == ["base", "as-delivered", "slb-2.0-33", "uniform-1.5", "logit-fusion-1.5"]
    assert parse_conditions("slb-2.0-33")[2].policy == TopNorm(2.0, 0.33)
    assert [c.name for c in parse_conditions("uniform-0,uniform-1,uniform-2.0")] == [
        "base",
        "as-delivered",
        "uniform-2",
    ]
    with pytest.raises(ValueError, match="did you mean 'uniform'"):
        parse_conditions("unifrom")
    with pytest.raises(ValueError, match="percentage"):
        parse_conditions("slb-2.0-0")


def test_a_policy_that_lacks_what_it_depends_on_says_so() -> None:
    bare = PolicyInputs(NORMS, base_top_prob=0.9, base_says_document=None)
    assert "needs the margins" in (refusal(MarginMatched(), bare) or "")
    assert "needs the margins" in (refusal(RelevanceGate(MarginMatched()), bare) or "")
    assert refusal(RelevanceGate(MarginMatched()), PolicyInputs(NORMS, relevant=False)) is None, "its gain is 0 there"
    assert refusal(MarginMatched(), PolicyInputs(NORMS, prior_margin=1.0, adapter_margin=2.0)) is None
    assert "needs the answer" in (refusal(ConflictAware(), bare) or "")
    unsure = PolicyInputs(NORMS, base_top_prob=0.4, base_says_document=None)
    assert refusal(ConflictAware(), unsure) is None, "the gate is closed whatever the document says"
    assert "margins" in (refusal(ConflictAware(otherwise=MarginMatched()), unsure) or "")
    assert "needs the adapter's effect" in (refusal(EffectGated(), bare) or "")
    for policy in (Uniform(2.0), TopNorm(), BottomNorm(), RandomLayers(), RandomMatched(), RelevanceGate()):
        assert refusal(policy, bare) is None


@pytest.mark.parametrize(
    ("name", "read", "gain"),
    [
        ("effect-gated", 7.5, 1.5), ("effect-gated", 0.0, 0.0), ("effect-gated", 15.0, 3.0), ("effect-gated-2", 7.5, 2.0),
        ("effect-gated-2-5", 4.0, 1.6), ("effect-gated-2-5-3", 4.0, 1.6), ("effect-gated-2-5-3", 40.0, 3.0),
    ],
)  # fmt: skip
def test_effect_gated_is_in_proportion_to_the_effect(name: str, read: float, gain: float) -> None:
    policy = parse_conditions(name)[2].policy
    assert policy(PolicyInputs(NORMS, effect=read)).tolist() == pytest.approx([gain] * 8)
    assert refusal(policy, PolicyInputs(NORMS, effect=read)) is None


def test_what_looks_at_the_question_and_what_needs_a_pass_for_it() -> None:
    looking = (ConflictAware(), RelevanceGate(), MarginMatched(), EffectGated())
    static = (Uniform(2.0), TopNorm(), BottomNorm(), RandomLayers(), RandomMatched())
    assert all(map(looks_at_question, looking))
    assert not any(map(looks_at_question, static))
    assert [probe_gain(policy) for policy in (*static, *looking)] == [None] * 8 + [1.5]
    assert probe_gain(ConflictAware(otherwise=EffectGated(probe_gain=1.25))) == 1.25
    assert refusal(ConflictAware(otherwise=EffectGated()), PolicyInputs(NORMS, effect=1.0)) is None


def test_effect_by_hand() -> None:
    base = torch.tensor([[4.0, 1.0, 0.0, 2.0]] * 4)
    adapted = torch.tensor(
        [
            [3.0, 4.0, 0.0, 2.0],  # token 1 rises by 3, the base's falls by 1: 4 nats at gain 2
            [9.0, 1.0, 0.0, 2.5],  # the base's rises more than any other: no effect
            [13.0, 14.0, 10.0, 12.0],  # the first again, 10 added to every logit
            [3.0, 4.0, math.nan, 2.0],
        ]
    )
    assert effect(base, adapted, 2.0)[:3].tolist() == [2.0, 0.0, 2.0]
    assert math.isnan(effect(base, adapted, 2.0)[3])
    assert effect(base, base, 2.0).tolist() == [0.0] * 4
