"""Hooks against the same update written into the weights of a copy of the model: fused maps, biases, norms."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, Phi3Config, Phi3ForCausalLM

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import Dense, Vector
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.model import wrap
from tests.families import SHAPE, build, words

IDS = torch.tensor([[3, 4, 5, 6, 7, 8]])
FUSED = {
    "gpt-neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SHAPE, pad_token_id=0, num_key_value_heads=2)),
}


def edited_logits(model: Any, edits: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's own forward with the deltas added to its parameters."""
    changed = copy.deepcopy(model)
    parameters = dict(changed.named_parameters())
    with torch.no_grad():
        for name, delta in edits.items():
            parameters[name].add_(delta)
        return changed(input_ids=IDS).logits


def hooked_logits(model: Any, adapter: Adapter) -> torch.Tensor:
    subject = wrap(model, words(), "tiny")
    with torch.no_grad(), attached(subject, stack(subject, [adapter]), torch.ones(1, subject.n_layers)):
        return subject.model(input_ids=IDS).logits


@pytest.mark.parametrize("family", sorted(FUSED))
def test_updates_of_fused_maps_equal_edited_weights(family: str, rng: torch.Generator) -> None:
    torch.manual_seed(0)
    model = FUSED[family]().eval()
    fused = ("query_key_value", "qkv_proj", "gate_up_proj")
    edits = {
        name: torch.randn(weight.shape, generator=rng) * 0.2
        for name, weight in model.named_parameters()
        if name.removesuffix(".weight").endswith(fused)
    }
    assert edits
    with torch.no_grad():
        base = model(input_ids=IDS).logits
    wanted = edited_logits(model, edits)
    adapter = Adapter("fused", {name.removesuffix(".weight"): Dense(delta) for name, delta in edits.items()})
    assert (wanted - base).abs().max() > 0.01, "the edit must matter for this test to mean anything"
    assert (hooked_logits(model, adapter) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("family", "suffix"),
    [
        ("llama", "layers.1.input_layernorm.weight"),
        ("gemma2", "layers.1.pre_feedforward_layernorm.weight"),
        ("gpt2", "h.1.ln_2.weight"),
        ("gpt2", "h.1.ln_2.bias"),
        ("gpt2", "h.1.mlp.c_proj.bias"),
        ("gpt2", "h.1.attn.c_attn.bias"),
        ("qwen2", "layers.1.self_attn.q_proj.bias"),
    ],
)
def test_updates_of_vectors_equal_edited_parameters(family: str, suffix: str, rng: torch.Generator) -> None:
    model, _ = build(family)
    name, weight = next((n, w) for n, w in model.named_parameters() if n.endswith(suffix))
    delta = torch.randn(weight.shape, generator=rng) * 0.5
    with torch.no_grad():
        base = model(input_ids=IDS).logits
    wanted = edited_logits(model, {name: delta})
    assert (wanted - base).abs().max() > 0.01
    assert (hooked_logits(model, Adapter("vector", {name: Vector(delta)})) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize(
    "path", ["model.norm.weight", "model.layers.1.mlp.weight", "model.layers.9.input_layernorm.bias"]
)
def test_a_vector_that_no_gain_reaches_is_refused(path: str) -> None:
    model, tokenizer = build("llama")
    subject = wrap(model, tokenizer, "tiny")
    with pytest.raises(AdapterError, match=r"in no layer|neither the bias"):
        stack(subject, [Adapter("bad", {path: Vector(torch.ones(32))})])
