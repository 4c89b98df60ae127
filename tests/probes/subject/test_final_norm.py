"""The final norm as numbers, for norms with weights, without, and for what is no norm; and the layers read through it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from transformers import (
    NanoChatConfig,
    NanoChatForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
)

from override_gap.probes.readings.adapted import read_base
from override_gap.probes.readings.layers import read_layers
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.subject.final_norm import final_norm
from override_gap.probes.subject.model import wrap
from tests.conftest import conflict
from tests.families import GROUPED, words

WITHOUT_WEIGHTS = {
    "olmo": lambda: OlmoForCausalLM(OlmoConfig(**GROUPED)),
    "nanochat": lambda: NanoChatForCausalLM(NanoChatConfig(**GROUPED, head_dim=8)),
}


@pytest.mark.parametrize("family", sorted(WITHOUT_WEIGHTS))
def test_a_final_norm_without_weights_splits_the_margin(family: str) -> None:
    torch.manual_seed(0)
    model = WITHOUT_WEIGHTS[family]().eval()
    model.config.architectures = [type(model).__name__]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.15)
    question = torch.tensor([words()("alpha beta gamma")["input_ids"]])
    with torch.no_grad():
        states = model.model(input_ids=question, output_hidden_states=True).hidden_states
        logits = model(input_ids=question).logits[0, -1]
        layers = [model.lm_head(model.model.norm(state))[0, -1] for state in states[:-1]]
    subject, items = wrap(model, words(), family), [conflict(0)]
    assert subject.norm is not None
    prior = read_prior(subject, items, [locate(subject, items[0])], layers=True)
    profile = read_layers(subject, prior, read_base(prior, subject))
    pre, doc = int(prior.pre[0]), int(prior.doc[0])
    cap = model.config.get_text_config().to_dict().get("final_logit_softcapping")
    margins = [float(z[pre] - z[doc]) for z in layers[1:]]  # before the cap, which is in the model's own class
    uncapped = logits if cap is None else cap * torch.atanh(logits / cap)
    assert profile.attribution.sum().item() == pytest.approx(float(uncapped[pre] - uncapped[doc]), abs=1e-4)
    assert profile.lens[0, :-1].tolist() == pytest.approx(margins, abs=1e-4)
    assert profile.lens[0, -1].item() == pytest.approx(float(uncapped[pre] - uncapped[doc]), abs=1e-4)


def test_a_model_without_a_final_norm_is_split_as_it_is() -> None:
    """GPT-1: each block ends in a norm, and nothing follows the last one."""
    torch.manual_seed(0)
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=64)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.15)
        states = model.transformer(
            input_ids=torch.tensor([words()("alpha beta gamma")["input_ids"]]), output_hidden_states=True
        ).hidden_states
        margins = [model.lm_head(state)[0, -1] for state in states]
    subject, items = wrap(model, words(), "gpt-1"), [conflict(0)]
    prior = read_prior(subject, items, [locate(subject, items[0])], layers=True)
    profile = read_layers(subject, prior, read_base(prior, subject))
    pre, doc = int(prior.pre[0]), int(prior.doc[0])
    expected = [float(z[pre] - z[doc]) for z in margins]
    assert profile.lens[0].tolist() == pytest.approx(expected[1:], abs=1e-5)
    assert profile.attribution[0, 1:].tolist() == pytest.approx(
        [b - a for a, b in itertools.pairwise(expected)], abs=1e-5
    )


class Norm(nn.Module):
    """An RMSNorm whose epsilon no attribute states, and whose weight has another name."""

    def __init__(self, epsilon: float, power: float = 0.5) -> None:
        super().__init__()
        self.scale, self.power = nn.Parameter(torch.linspace(0.5, 1.5, 32)), power
        self.forward = lambda x: x * (x.square().mean(-1, keepdim=True) + epsilon) ** -self.power * self.scale


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1e-6])
def test_an_epsilon_that_no_attribute_states_is_measured(epsilon: float) -> None:
    norm = final_norm(Norm(epsilon), 32, torch.device("cpu"), torch.float32)
    assert norm is not None
    assert norm.eps == pytest.approx(epsilon, rel=0.02)
    assert not norm.centred
    x = torch.randn(5, 32) * 3e-3
    assert torch.allclose(norm(x), Norm(epsilon)(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("affine", [True, False])
def test_torch_s_layernorm_with_and_without_weights(affine: bool) -> None:
    module = nn.LayerNorm(32, eps=1e-4, elementwise_affine=affine)
    norm = final_norm(module, 32, torch.device("cpu"), torch.float32)
    assert norm is not None
    assert (norm.centred, norm.eps) == (True, 1e-4)
    assert torch.allclose(norm(torch.arange(64.0).view(2, 32)), module(torch.arange(64.0).view(2, 32)), atol=1e-5)


@pytest.mark.parametrize("module", [Norm(1e-6, power=0.4), nn.Identity(), nn.Softmax(-1), nn.Linear(32, 16)])
def test_what_is_no_norm_is_none(module: nn.Module) -> None:
    assert final_norm(module, 32, torch.device("cpu"), torch.float32) is None
