"""What the stream gets of a map's output, against the change of the stream in a plain model with edited weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    GraniteMoeConfig,
    GraniteMoeForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.layers import read_direct
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.subject.model import wrap
from override_gap.probes.subject.stream_paths import StreamPaths
from tests.conftest import conflict, tiny
from tests.families import GROUPED, words

MULTIPLIED = {"residual_multiplier": 0.22, "logits_scaling": 4.0, "embedding_multiplier": 6.0}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED)),
    "olmo": lambda: OlmoForCausalLM(OlmoConfig(**GROUPED)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**GROUPED, **MULTIPLIED)),
    "granite-moe": lambda: GraniteMoeForCausalLM(
        GraniteMoeConfig(**GROUPED, **MULTIPLIED, num_local_experts=4, num_experts_per_tok=2)
    ),
}
PATHS = {"granite-moe": "model.layers.2.self_attn.o_proj"}


@contextmanager
def holding(model: nn.Module, path: str) -> Iterator[Callable[[], None]]:
    """Experts behind the map see its change too: until released they give what they gave in the pass before."""
    experts = [m for name, m in model.named_modules() if name == "model.layers.2.block_sparse_moe"]
    given: list[torch.Tensor] = []

    def hold(_m: nn.Module, _a: object, out: torch.Tensor) -> torch.Tensor:
        given.append(out)
        return given[0]

    hooks = [module.register_forward_hook(hold) for module in experts if path.endswith("o_proj")]

    def release() -> None:
        for hook in hooks:
            hook.remove()

    yield release


def built(family: str):
    torch.manual_seed(0)
    model = MODELS[family]().eval()
    model.config.architectures = [type(model).__name__]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * (0.15 if weight.ndim > 1 else 0.3))
    return model


@pytest.mark.parametrize("family", sorted(MODELS))
def test_direct_is_the_change_of_the_stream_by_the_frozen_norm(family: str, rng: torch.Generator) -> None:
    """The last layer's last map of a plain copy gets the update in its weight; its stream is read before the final norm."""
    plain = built(family)
    subject = wrap(copy.deepcopy(plain), words(), family)
    path, items = PATHS.get(family, "model.layers.2.mlp.down_proj"), [conflict(0), conflict(1, "alpha beta")]
    update = LowRank(
        torch.randn(2, subject.sites[path].d_in, generator=rng) * 0.3, torch.randn(32, 2, generator=rng) * 0.3, 1.7
    )
    prior = read_prior(subject, items, [locate(subject, item) for item in items], layers=True)
    state = read_adapted(
        subject, prior, stack(subject, [Adapter("a", {path: update})] * 2), torch.ones(2, 3), layers=True
    )
    direct = read_direct(subject, prior, state)
    assert direct is not None
    streams: list[torch.Tensor] = []
    plain.model.norm.register_forward_pre_hook(lambda _, args: streams.append(args[0].detach()))
    for n, item in enumerate(items):
        ids = torch.tensor([subject.tokenize(item.question)])
        with torch.no_grad(), holding(plain, path) as release:
            plain(input_ids=ids)
            weight = plain.get_submodule(path).weight
            weight.add_(update.scale * update.B @ update.A)
            plain(input_ids=ids)
            release()
            plain(input_ids=ids)
            weight.sub_(update.scale * update.B @ update.A)
        before, held, after = (stream[0, -1] for stream in streams[-3:])
        change = held - before
        if family == "olmo":
            change, scale, weight = change - change.mean(), (after.var(unbiased=False) + 1e-5).sqrt(), torch.ones(32)
        else:
            scale, weight = (after.square().mean() + plain.model.norm.variance_epsilon).sqrt(), plain.model.norm.weight
        rows = plain.lm_head.weight[prior.doc[n]] - plain.lm_head.weight[prior.pre[n]]
        expected = (change / scale * weight) @ rows / getattr(plain.config, "logits_scaling", 1.0)
        assert direct[n, :2].abs().max() == 0
        assert direct[n, 2].item() == pytest.approx(expected.item(), abs=2e-6)
        assert abs(expected) > 1e-3


def test_a_norm_behind_the_map_is_no_straight_line_and_the_norms_own_weight_is() -> None:
    subject = tiny("gemma2")
    paths = subject.stream.of(["model.layers.1.mlp.down_proj", "model.layers.1.post_feedforward_layernorm"])
    assert [path.scale for path in paths.values()] == [None, 1.0]
    assert subject.stream.reason(list(paths)) == (
        "what lies between layers.1.mlp.down_proj and the stream is no straight line"
    )


def test_a_map_that_only_others_read_writes_nothing_itself() -> None:
    subject = tiny("llama")
    for path in ("self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj", "input_layernorm"):
        reason = subject.stream.reason([f"model.layers.1.{path}"])
        assert reason == f"layers.1.{path} writes nothing into the stream itself"


def test_a_gate_that_depends_on_the_token_is_no_straight_line() -> None:
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        **GROUPED,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        shared_expert_intermediate_size=24,
        decoder_sparse_step=1,
    )
    config.architectures = ["Qwen2MoeForCausalLM"]
    subject = wrap(Qwen2MoeForCausalLM(config).eval(), words(), "qwen2-moe")
    assert "no straight line" in str(subject.stream.reason(["model.layers.1.mlp.shared_expert.down_proj"]))


class Scaled(nn.Module):
    """A block whose attention or feed-forward output is multiplied per channel (LayerScale), and its stream by a number."""

    def __init__(self, block: nn.Module, channels: torch.Tensor, kept: float) -> None:
        super().__init__()
        self.block, self.kept = block, kept
        block.mlp.register_forward_hook(lambda _, _args, out: out * channels)

    def forward(self, hidden_states: torch.Tensor, **named: object) -> torch.Tensor:
        return self.kept * self.block(hidden_states, **named)


def test_channels_and_skips_that_are_scaled_are_followed_through_all_layers() -> None:
    model, channels = built("llama"), torch.linspace(0.5, 2.0, 32)
    kept = (1.0, 0.5, 0.8)
    model.model.layers = nn.ModuleList(
        [Scaled(block, channels, k) for block, k in zip(model.model.layers, kept, strict=True)]
    )
    paths = StreamPaths(model.model, model, tuple(model.model.layers), 32).of(
        ["model.layers.0.block.mlp.down_proj", "model.layers.1.block.self_attn.o_proj"]
    )
    mlp, attention = paths.values()
    assert isinstance(mlp.scale, torch.Tensor)
    assert torch.allclose(mlp.scale, channels * 1.0 * 0.5 * 0.8, atol=1e-4)
    assert attention.scale == pytest.approx(0.5 * 0.8, abs=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    subject = tiny("gpt2")
    before = [dict(vars(module)) for module in subject.model.modules()]
    subject.stream.of([path for path in subject.sites if ".1." in path])
    assert subject.how_changed() is None
    for module, attributes in zip(subject.model.modules(), before, strict=True):
        assert "forward" not in vars(module)
        assert not module._forward_hooks
        assert attributes.keys() == vars(module).keys()
