"""Policies: worked examples, and the laws the controls must obey."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from override_gap.margins.attribution import predicted_critical_gain
from override_gap.margins.condition_parser import parse_conditions
from override_gap.margins.effect import effect, lead
from override_gap.margins.gain_policies import (
    BottomNorm,
    ConflictAware,
    EffectGated,
    EffectLayers,
    Gated,
    MarginMatched,
    PolicyInputs,
    RandomLayers,
    RandomMatched,
    RelevanceGate,
    TopNorm,
    Uniform,
    given_gains,
    looks_at_question,
    needs_layer_effects,
    probe_gain,
    reads_answer,
    reads_words,
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
    ("name", "effect", "lead", "overlap", "gain"),
    [
        ("effect-gated", 7.5, 20.0, 1.0, 1.5),  # at the reference, sharing all words
        ("effect-gated", 7.5, 20.0, 0.25, 0.75),
        ("effect-gated", 7.5, 5.0, 1.0, 1.2),  # (5 + 4) / 7.5 is enough to put it first by 4 nats
        ("effect-gated-1.5-1", 7.5, 5.0, 1.0, 0.8),
        ("effect-gated-8-100", 7.5, 5.0, 1.0, 8.0),  # no bound
        ("effect-gated-8-100-5", 7.5, 5.0, 1.0, 5.0),
        ("effect-gated", 0.0, 5.0, 1.0, 0.0), ("effect-gated", 7.5, 20.0, 0.0, 0.0),
        ("effect-alone", 7.5, 20.0, 0.0, 1.5), ("effect-alone-2-9-1", 30.0, 20.0, 0.0, 29 / 30),
        ("overlap-scaled", math.nan, math.nan, 0.5, 0.75), ("overlap-scaled-9-2", math.nan, math.nan, 0.5, 2.0),
    ],
)  # fmt: skip
def test_a_gain_by_the_effect(name: str, effect: float, lead: float, overlap: float, gain: float) -> None:
    policy = parse_conditions(name)[2].policy
    inputs = PolicyInputs(NORMS, effect=effect, lead=lead, overlap=overlap)
    assert policy(inputs).tolist() == pytest.approx([gain] * 8)
    assert refusal(policy, inputs) is None


def test_layers_by_effect_are_among_those_with_an_update() -> None:
    norms = torch.tensor([0.5, 0.0, 0.2, 0.9])
    inputs = PolicyInputs(norms, layer_effects=torch.tensor([1.0, 9.0, 3.0, -2.0]))
    assert parse_conditions("effect-layers-1.5-34")[2].policy(inputs).tolist() == [1, 1, 1.5, 1]
    assert parse_conditions("least-effect-layers-1.5-34")[2].policy(inputs).tolist() == [1, 1, 1, 1.5]
    assert "do not add up" in (refusal(EffectLayers(), PolicyInputs(norms)) or "")
    assert EffectLayers()(PolicyInputs(norms)).tolist() == [1] * 4


def test_gains_layer_by_layer() -> None:
    policy = parse_conditions("layers-1.5x2_0x1_1x5")[2].policy
    assert policy(PolicyInputs(NORMS)).tolist() == [1.5, 1.5, 0, 1, 1, 1, 1, 1]
    assert given_gains(policy) == given_gains(parse_conditions("if-confident:layers-1.5x2_0x1_1x5")[2].policy) == 8
    assert given_gains(TopNorm()) is None
    with pytest.raises(ValueError, match="for 8 layers, the model has 3"):
        policy(PolicyInputs(torch.ones(3)))
    assert len(parse_conditions("layers-" + "_".join(["1.25x1"] * 120))[2].policy.gains) == 120


@pytest.mark.parametrize(
    ("gate", "known", "opens"),
    [
        ("if-confident", {"base_top_prob": 0.6}, True), ("if-confident", {"base_top_prob": 0.5}, False),
        ("if-confident-0.9", {"base_top_prob": 0.6}, False), ("if-disagrees", {"base_says_document": True}, False),
        ("if-disagrees", {"base_says_document": False}, True),
        ("if-conflict", {"base_top_prob": 0.6, "base_says_document": False}, True),
        ("if-conflict", {"base_top_prob": 0.6, "base_says_document": True}, False),
        ("if-conflict", {"base_top_prob": 0.4, "base_says_document": False}, False),
        ("if-relevant", {"relevant": False}, False), ("if-relevant", {"relevant": True}, True),
        ("if-effect", {"effect": 4.1}, True), ("if-effect", {"effect": 4.0}, False), ("if-effect-3", {"effect": 4.0}, True),
    ],
)  # fmt: skip
def test_behind_a_shut_gate_the_adapter_is_as_delivered(gate: str, known: dict, opens: bool) -> None:
    policy, inputs = parse_conditions(f"{gate}:slb")[2].policy, PolicyInputs(NORMS, **known)
    assert policy(inputs).tolist() == (TopNorm()(inputs).tolist() if opens else [1] * 8)
    assert refusal(policy, inputs) is None
    both = parse_conditions(f"if-relevant:{gate}:uniform-2")[2].policy
    assert both(inputs).tolist() == [2 if opens else 1] * 8


def test_ca_is_its_gate_in_front_of_slb() -> None:
    for sure in (0.4, 0.6):
        for says in (True, False):
            inputs = PolicyInputs(NORMS, base_top_prob=sure, base_says_document=says)
            assert (
                Gated(TopNorm(2.0, 1 / 3), confident=0.5, disagrees=True)(inputs).tolist()
                == ConflictAware()(inputs).tolist()
            )


def test_a_gate_that_lacks_what_it_asks_says_so() -> None:
    unknown = PolicyInputs(NORMS, base_top_prob=0.9, base_says_document=None)
    for name in ("if-disagrees:slb", "if-conflict:slb", "if-confident:if-disagrees:slb"):
        assert "needs the answer" in (refusal(parse_conditions(name)[2].policy, unknown) or ""), name
    shut = PolicyInputs(NORMS, base_top_prob=0.4, base_says_document=None)
    assert refusal(parse_conditions("if-conflict:slb")[2].policy, shut) is None, "shut whatever the document says"
    assert "effect" in (refusal(parse_conditions("if-effect:slb")[2].policy, unknown) or "")
    assert "effect" in (refusal(parse_conditions("if-confident:effect-gated")[2].policy, unknown) or "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("if-confident:", "need a policy of gains"), ("if-confident:base", "need a policy of gains"),
        ("if-sure:slb", "need a gate"), ("if-relevant-0.3:slb", "need a gate"), ("if-confident-2:slb", "probability below 1"),
        ("layers-1.5", "GAINxCOUNT"), ("layers-1.5x0", "GAINxCOUNT"), ("layers-1x999_1x999", "at most 1000 layers"),
        ("effect-gated-1-2-3-4", "unknown policy"), ("effect-gated-1e9", "unknown policy"), ("slb-2", "unknown policy"),
        ("effect-layers-2-0", "percentage"), (":slb", "need a gate"), ("if-conflict:" * 9 + "slb", "too long"),
    ],
)  # fmt: skip
def test_an_impossible_name_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as fault:
        parse_conditions(name)
    assert "\n" not in str(fault.value)


def test_what_looks_at_the_question_and_what_needs_a_pass_for_it() -> None:
    def named(names: str) -> list:
        return [condition.policy for condition in parse_conditions(names)[2:]]

    looking = named("ca,relevance-gate,margin-matched,effect-gated,overlap-scaled,effect-layers,if-relevant:slb")
    static = named("uniform-2,slb,bottom-layers,random-layers,random-matched,layers-1.5x8")
    assert all(map(looks_at_question, looking))
    assert not any(map(looks_at_question, static))
    with_pass = named("effect-gated,effect-alone,if-effect:slb,if-confident:effect-gated")
    assert [probe_gain(policy) for policy in with_pass] == [1.5] * 4
    assert {probe_gain(policy) for policy in (*static, *named("ca,overlap-scaled,effect-layers,if-relevant:slb"))} == {
        None
    }
    assert [needs_layer_effects(policy) for policy in named("effect-layers,if-effect:effect-layers,slb")] == [
        True,
        True,
        False,
    ]
    assert [reads_answer(policy) for policy in named("ca,if-disagrees:slb,if-confident:ca,if-confident:slb")] == [
        True
    ] * 3 + [False]
    assert [reads_words(policy) for policy in named("effect-gated,if-relevant:slb,effect-alone,ca")] == [
        True,
        True,
        False,
        False,
    ]


def test_effect_and_lead_by_hand() -> None:
    base = torch.tensor([[4.0, 1.0, 0.0, 2.0]] * 4)
    adapted = torch.tensor(
        [
            [
                3.0,
                4.0,
                0.0,
                2.0,
            ],  # token 1 rises by 3, the base's falls by 1: 4 nats at gain 2; the base prefers its own by 3
            [9.0, 1.0, 0.0, 2.5],  # the base's rises more than any other: no effect
            [13.0, 14.0, 10.0, 12.0],  # the first again, 10 added to every logit
            [3.0, 4.0, math.nan, 2.0],
        ]
    )
    assert effect(base, adapted, 2.0)[:3].tolist() == [2.0, 0.0, 2.0]
    assert lead(base, adapted)[:3].tolist() == [3.0, 2.0, 3.0]
    assert math.isnan(effect(base, adapted, 2.0)[3])
    assert effect(base, base, 2.0).tolist() == [0.0] * 4
