"""Components of a margin against TransformerLens's own decomposition, and against runs in which components are taken away."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from override_gap.margins.adapter import Adapter
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted, read_base
from override_gap.probes.readings.components import Components, read_components
from override_gap.probes.readings.layers import read_layers
from override_gap.probes.readings.prior import Prior, locate, read_prior
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.stream_writers import stream_writers
from tests.conftest import conflict, random_adapter, tiny
from tests.families import build, many

ITEMS = [
    conflict(0, "alpha beta gamma", "delta", "epsilon"),
    conflict(1, "one two three four five six seven", "eight", "ten"),
    conflict(2, "red", "green", "blue"),
]


def prior_of(subject: Subject) -> Prior:
    return read_prior(subject, ITEMS, [locate(subject, item) for item in ITEMS], layers=True)


def read(subject: Subject, adapters: list[Adapter]) -> tuple[Prior, Components]:
    prior, ones = prior_of(subject), torch.ones(len(ITEMS), subject.n_layers)
    return prior, read_components(subject, prior, stack(subject, adapters), ones, stream_writers(subject))


def merged(family: str, adapter: Adapter | None):
    """A model of its own with the adapter added to its weights, as a bridge whose final norm is folded into the unembedding."""
    model, tokenizer = build(family)
    modules = dict(model.named_modules())
    for path, update in adapter.updates.items() if adapter is not None else ():
        weight = modules[path].weight
        delta = update.scale * update.B @ update.A
        weight.data += delta.T if type(modules[path]).__name__ == "Conv1D" else delta
    bridge = TransformerBridge.boot_transformers(family, hf_model=model, tokenizer=tokenizer, device="cpu")
    bridge.enable_compatibility_mode(
        disable_warnings=True, center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    return bridge


def transformer_lens(bridge, prior: Prior, n: int, *, heads: bool) -> dict[str, float]:
    """TransformerLens's `decompose_resid`, `stack_head_results` and `logit_attrs` of one item, by its own labels."""
    length = int(prior.batch.at[n]) + 1
    with torch.no_grad():
        _, cache = bridge.run_with_cache(prior.batch.ids[n : n + 1, :length])
    shares: dict[str, float] = {}
    parts = [cache.decompose_resid(return_labels=True, pos_slice=-1)]
    parts += [cache.stack_head_results(return_labels=True, pos_slice=-1)] if heads else []
    for stacked, labels in parts:
        by_label = cache.logit_attrs(stacked, prior.pre[n : n + 1], prior.doc[n : n + 1], pos_slice=-1)
        shares |= dict(zip(labels, by_label[:, 0].tolist(), strict=True))
    return shares


def compare(ours: Components, shares: torch.Tensor, n: int, theirs: dict[str, float]) -> int:
    """Assert that an item's shares are theirs; the number that was compared."""
    compared = 0
    for column, part in enumerate(ours.names):
        name = {"attention": "attn", "mlp": "mlp"}.get(part.name)
        label = f"L{part.layer}H{part.head}" if part.name == "head" else f"{part.layer}_{name}_out"
        if label in theirs:
            assert shares[n, column].item() == pytest.approx(theirs[label], abs=1e-3), (label, n)
            compared += 1
    return compared


def test_components_equal_transformerlenss_decomposition(subject: Subject, family: str, rng: torch.Generator) -> None:
    """Two models: ours with hooks, theirs with the adapter merged into its weights and its norms folded."""
    adapters = [random_adapter(subject, rng, many(family), size=0.1) for _ in ITEMS]
    prior, ours = read(subject, adapters)
    assert ours.closed.all()
    assert ours.heads_closed.all()
    # TransformerLens's results of heads are what they are before Gemma 2's norm behind attention
    bridge, heads = merged(family, None), family != "gemma2"
    bases = [transformer_lens(bridge, prior, n, heads=heads) for n in range(len(ITEMS))]
    compared = sum(compare(ours, ours.base, n, theirs) for n, theirs in enumerate(bases))
    compared += compare(ours, ours.adapted, 1, transformer_lens(merged(family, adapters[1]), prior, 1, heads=heads))
    assert compared == (len(ITEMS) + 1) * subject.n_layers * (6 if heads else 2)


def test_what_does_not_add_up_is_marked(rng: torch.Generator) -> None:
    subject = tiny("llama")
    prior, ones = prior_of(subject), torch.ones(len(ITEMS), subject.n_layers)
    adapters = stack(subject, [random_adapter(subject, rng, many("llama")) for _ in ITEMS])
    first, *others = stream_writers(subject)
    wrong = (tuple(replace(writer, scale=0.9) if not writer.mixes else writer for writer in first), *others)
    assert not read_components(subject, prior, adapters, ones, wrong).closed.any()
    heads = first[0].heads
    assert heads is not None
    other = replace(heads, module=subject.blocks[1].self_attn.o_proj)
    wrong = ((replace(first[0], heads=other), first[1]), *others)
    marked = read_components(subject, prior, adapters, ones, wrong)
    assert marked.closed.all()
    assert not marked.heads_closed.any()


def test_attention_and_mlp_add_up_to_the_layer_and_heads_to_attention(
    subject: Subject, family: str, rng: torch.Generator
) -> None:
    adapters = [random_adapter(subject, rng, many(family)) for _ in ITEMS]
    prior, ours = read(subject, adapters)
    under = read_adapted(
        subject, prior, stack(subject, adapters), torch.ones(len(ITEMS), subject.n_layers), layers=True
    )
    for state, shares in ((read_base(prior, subject), ours.base), (under, ours.adapted)):
        by_layer = read_layers(subject, prior, state).attribution
        for layer in range(-1, subject.n_layers):
            whole = shares[:, columns(ours, layer, "embedding", "attention", "mlp")].sum(1)
            assert torch.allclose(whole, by_layer[:, layer + 1], atol=1e-4)
            heads = shares[:, columns(ours, layer, "head", "bias")].sum(1)
            assert torch.allclose(heads, shares[:, columns(ours, layer, "attention")].sum(1), atol=1e-4)


def columns(ours: Components, layer: int, *names: str) -> list[int]:
    return [n for n, part in enumerate(ours.names) if part.layer == layer and part.name in names]


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "llama"])
def test_what_updates_do_themselves_equals_the_pass_with_their_layer_alone(
    subject: Subject, family: str, rng: torch.Generator
) -> None:
    """With updates in one layer alone the stream that enters it is the base's; with all but its own, it answers theirs."""
    adapters = [random_adapter(subject, rng, many(family)) for _ in ITEMS]
    stacked, ones = stack(subject, adapters), torch.ones(len(ITEMS), subject.n_layers)
    prior, ours = read(subject, adapters)
    direction, _ = subject.margin_direction(prior.pre, prior.doc)
    norm = subject.norm
    assert norm is not None
    scale = norm.scale(read_adapted(subject, prior, stacked, ones, layers=True).residual[:, -1])

    def written(gains: torch.Tensor, layer: int) -> torch.Tensor:
        """What the layer adds to the stream under these gains, as a share of the margin at the adapted model's scale."""
        residual = read_adapted(subject, prior, stacked, gains, layers=True).residual
        return ((norm.centre(residual[:, layer + 1] - residual[:, layer]) * norm.weight / scale) * direction).sum(-1)

    for layer in range(subject.n_layers):
        only, below = torch.zeros_like(ones), ones.clone()
        only[:, layer], below[:, layer] = 1.0, 0.0
        in_base = written(torch.zeros_like(ones), layer)
        parts = columns(ours, layer, "attention", "mlp")
        assert torch.allclose(ours.own[:, parts].sum(1), written(only, layer) - in_base, atol=1e-4)
        assert torch.allclose(ours.response[:, parts].sum(1), written(below, layer) - in_base, atol=1e-4)
        assert torch.allclose(ours.rescaled[:, parts].sum(1), in_base, atol=1e-4)
    assert ours.own[:, columns(ours, 0, "mlp")].abs().min() > 1e-4
    assert ours.response[:, columns(ours, 0, "attention", "mlp")].abs().max() < 1e-6


def test_the_heads_of_a_norm_behind_attention_are_taken_away_one_by_one(rng: torch.Generator) -> None:
    """Gemma 2: without a head, what the map gives, through the norm at its own scale, is less by the head's share."""
    subject = tiny("gemma2")
    prior, ours = read(subject, [random_adapter(subject, rng, many("gemma2")) for _ in ITEMS])
    layer, head = subject.model.model.layers[1], 2
    given: list[torch.Tensor] = []
    direction, _ = subject.margin_direction(prior.pre, prior.doc)
    norm = subject.norm
    assert norm is not None

    def without(_: object, args: tuple[torch.Tensor]) -> torch.Tensor:
        z = args[0].clone()
        z[..., 16:24] = 0.0
        return z

    for hook in (None, without):
        handles = [layer.self_attn.o_proj.register_forward_hook(lambda _m, _a, out: given.append(out))]
        handles += [layer.self_attn.o_proj.register_forward_pre_hook(hook)] if hook else []
        subject.decoder(input_ids=prior.batch.ids, attention_mask=prior.batch.mask)
        for handle in handles:
            handle.remove()
    rows, behind = torch.arange(len(ITEMS)), layer.post_attention_layernorm
    whole, rest = (out[rows, prior.batch.at].detach() for out in given)
    through = (whole - rest) / (whole.square().mean(-1, keepdim=True) + behind.eps).sqrt() * (1 + behind.weight)
    by_hand = (through / norm.scale(prior.residual[:, -1]) * norm.weight * direction).sum(-1)
    column = next(n for n, part in enumerate(ours.names) if (part.layer, part.head) == (1, head))
    assert torch.allclose(ours.base[:, column], by_hand.detach(), atol=1e-5)
