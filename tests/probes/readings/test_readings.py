"""Prior, margin and layer readings against slow independent routes, on every family."""

from __future__ import annotations

import pytest
import torch

from override_gap.margins.items.item import Item
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import fuse_logits, read_adapted, read_base
from override_gap.probes.readings.layers import attribution_gap, read_causal, read_direct, read_layers
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.subject.model import Subject, wrap
from tests.conftest import conflict, random_adapter, tiny
from tests.families import build, down, many

ITEMS = [
    conflict(0, "alpha beta gamma", "delta", "epsilon"),
    conflict(1, "one two three four five six seven", "eight nine", "eight ten"),
    conflict(2, "red", "green", "blue sigma tau"),
    Item("n0", "p9", "novel", "pi rho sigma .", "pi rho", "sigma"),
    Item("r0", "p9", "retention", "pi rho sigma .", "phi chi", "psi"),
]


def prior_of(subject: Subject, items=ITEMS, side: str = "right"):
    return read_prior(subject, items, [locate(subject, item) for item in items], layers=True, side=side)


def slow_logits(subject: Subject, text: str) -> torch.Tensor:
    """One text at a time through the model's own head."""
    with torch.no_grad():
        return subject.model(input_ids=torch.tensor([subject.tokenizer(text)["input_ids"]])).logits[0]


def test_prior_margin_and_strength_by_hand(subject: Subject) -> None:
    prior = prior_of(subject)
    base = read_base(prior, subject)
    vocab = subject.tokenizer.get_vocab()
    for n, (prefix, pre, doc) in enumerate(
        [
            ("alpha beta gamma", "epsilon", "delta"),
            ("one two three four five six seven eight", "ten", "nine"),
            ("red", "blue", "green"),
        ]
    ):
        z = slow_logits(subject, prefix)[-1]
        assert base.margins.prior[n].item() == pytest.approx((z[vocab[pre]] - z[vocab[doc]]).item(), abs=1e-4)
    whole = slow_logits(subject, "red blue sigma tau").log_softmax(-1)
    by_hand = sum(whole[i, vocab[word]].item() for i, word in enumerate(["blue", "sigma", "tau"]))
    assert prior.strength[2].item() == pytest.approx(by_hand, abs=1e-4)
    assert prior.n_answer.tolist()[:3] == [1, 2, 3]


def test_items_without_a_prior_answer_take_the_bases_first_or_second_choice(subject: Subject) -> None:
    prior = prior_of(subject)
    novel, retention = slow_logits(subject, "pi rho")[-1], slow_logits(subject, "phi chi")[-1]
    sigma = subject.tokenizer.get_vocab()["sigma"]
    best = novel.topk(2).indices.tolist()
    assert prior.pre[3].item() == (best[1] if best[0] == sigma else best[0])
    assert (prior.pre[4].item(), prior.doc[4].item()) == tuple(retention.topk(2).indices.tolist())
    assert torch.isnan(prior.known[3])


def test_a_batch_equals_single_items_and_padding_sides_agree(
    subject: Subject, family: str, rng: torch.Generator
) -> None:
    adapters = [random_adapter(subject, rng, many(family)) for _ in ITEMS]
    ones = torch.ones(len(ITEMS), subject.n_layers)
    right = prior_of(subject)
    whole = read_adapted(subject, right, stack(subject, adapters), ones, layers=True)
    left = prior_of(subject, side="left")
    other = read_adapted(subject, left, stack(subject, adapters), ones, layers=True)
    assert torch.allclose(right.strength, left.strength, atol=1e-4)
    assert torch.allclose(whole.margins.adapter, other.margins.adapter, atol=1e-4)
    for n, item in enumerate(ITEMS):
        alone = prior_of(subject, [item])
        single = read_adapted(subject, alone, stack(subject, adapters[n : n + 1]), ones[:1], layers=True)
        assert torch.allclose(single.margins.adapter, whole.margins.adapter[n], atol=1e-4)
        assert torch.allclose(single.margins.prior, whole.margins.prior[n], atol=1e-4)
        assert torch.allclose(single.residual, whole.residual[n], atol=1e-4)


def test_gain_zero_reads_the_base_exactly(subject: Subject, family: str, rng: torch.Generator) -> None:
    prior = prior_of(subject)
    stacked = stack(subject, [random_adapter(subject, rng, many(family)) for _ in ITEMS])
    at_zero = read_adapted(subject, prior, stacked, torch.zeros(len(ITEMS), subject.n_layers))
    assert torch.equal(at_zero.logits, prior.logits)
    assert at_zero.margins.adapter.abs().max() == 0


def test_attribution_sums_to_the_margin_and_lens_ends_at_it(
    subject: Subject, family: str, rng: torch.Generator
) -> None:
    prior = prior_of(subject)
    stacked = stack(subject, [random_adapter(subject, rng, many(family)) for _ in ITEMS])
    ones = torch.ones(len(ITEMS), subject.n_layers)
    for state in (read_base(prior, subject), read_adapted(subject, prior, stacked, ones, layers=True)):
        profile = read_layers(subject, prior, state)
        assert attribution_gap(subject, prior, state, profile).max() < 1e-3
        # an independent route to the same margin: the model's own (capped) logits, the cap undone
        margin = state.margins.adapted_pre - state.margins.adapted_doc
        if subject.cap is not None:
            uncapped = [
                subject.cap * torch.atanh(z / subject.cap)
                for z in (state.margins.adapted_pre, state.margins.adapted_doc)
            ]
            margin = uncapped[0] - uncapped[1]
        assert torch.allclose(profile.attribution.sum(1), margin, atol=5e-3 if subject.cap else 1e-3)
        assert torch.allclose(profile.lens[:, -1], margin, atol=5e-3 if subject.cap else 1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "mistral"], indirect=False)
def test_attribution_equals_transformerlens_direct_logit_attribution(family: str) -> None:
    """TransformerLens does not fold the final norm's weight in, so the comparison is made where that weight is one."""
    model, tokenizer = build(family)
    norm = model.model.norm if hasattr(model, "model") else model.transformer.ln_f
    torch.nn.init.ones_(norm.weight)
    if getattr(norm, "bias", None) is not None:
        torch.nn.init.zeros_(norm.bias)
    subject = wrap(model, tokenizer, f"dla-{family}")
    prior = prior_of(subject, ITEMS[:1])
    profile = read_layers(subject, prior, read_base(prior, subject))
    divergence = locate(subject, ITEMS[0])
    with torch.no_grad(), subject.bridged.as_bridge() as bridge:
        _, cache = bridge.run_with_cache(torch.tensor([divergence.prefix]))
    ends = torch.stack([cache["blocks.0.hook_in"], *(cache[f"blocks.{n}.hook_out"] for n in range(subject.n_layers))])
    steps = torch.cat([ends[:1], ends.diff(dim=0)])
    theirs = cache.logit_attrs(
        steps[:, :, -1], tokens=int(prior.pre[0]), incorrect_tokens=int(prior.doc[0]), pos_slice=-1
    )
    assert torch.allclose(profile.attribution[0], theirs.flatten(), atol=1e-4)


def test_direct_writing_of_the_last_layer_is_its_whole_effect_under_a_frozen_norm(rng: torch.Generator) -> None:
    subject = tiny("llama")
    prior = prior_of(subject, ITEMS[:2])
    adapters = [random_adapter(subject, rng, ("2.mlp.down_proj",)) for _ in range(2)]
    state = read_adapted(subject, prior, stack(subject, adapters), torch.ones(2, subject.n_layers), layers=True)
    direct = read_direct(subject, prior, state)
    assert direct is not None
    assert direct[:, :2].abs().max() == 0
    moved = state.residual[:, -1] - prior.residual[:, -1]
    direction, _ = subject.margin_direction(prior.pre, prior.doc)
    by_hand = -((moved / subject.norm.scale(state.residual[:, -1]) * subject.norm.weight) * direction).sum(-1)
    assert torch.allclose(direct[:, 2], by_hand, atol=1e-4)


def test_direct_writing_is_not_claimed_behind_a_norm(rng: torch.Generator) -> None:
    subject = tiny("gemma2")
    prior = prior_of(subject, ITEMS[:1])
    adapters = stack(subject, [random_adapter(subject, rng, down("gemma2"))])
    state = read_adapted(subject, prior, adapters, torch.ones(1, subject.n_layers), layers=True)
    assert read_direct(subject, prior, state) is None


def test_causal_layers_of_a_one_layer_adapter(rng: torch.Generator) -> None:
    subject = tiny("llama")
    prior = prior_of(subject, ITEMS[:2])
    adapters = stack(subject, [random_adapter(subject, rng, ("1.mlp.down_proj",)) for _ in range(2)])
    full = read_adapted(subject, prior, adapters, torch.ones(2, subject.n_layers)).margins.adapter
    alone, removed = read_causal(subject, prior, adapters, [0, 1, 2])
    assert torch.equal(alone[:, 1], full)
    assert alone[:, [0, 2]].abs().max() == 0
    assert removed[:, 1].abs().max() == 0
    assert torch.equal(removed[:, 0], full)


def test_logit_fusion_at_gain_zero_is_the_base_and_at_one_the_adapted_model(rng: torch.Generator) -> None:
    subject = tiny("gemma2")
    prior = prior_of(subject)
    adapters = stack(subject, [random_adapter(subject, rng, down("gemma2")) for _ in ITEMS])
    delivered = read_adapted(subject, prior, adapters, torch.ones(len(ITEMS), subject.n_layers))
    assert torch.allclose(
        fuse_logits(subject, prior, delivered, 0.0).margins.adapter, torch.zeros(len(ITEMS)), atol=1e-6
    )
    assert torch.allclose(
        fuse_logits(subject, prior, delivered, 1.0).margins.adapter, delivered.margins.adapter, atol=1e-4
    )
    doubled = fuse_logits(subject, prior, delivered, 2.0).margins.adapter
    assert torch.allclose(doubled, 2 * delivered.margins.adapter, atol=1e-4)
