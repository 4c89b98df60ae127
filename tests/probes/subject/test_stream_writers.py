"""The modules that write into the stream, against the modules that architectures are known to have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.model import Subject, wrap
from override_gap.probes.subject.stream_writers import stream_writers
from tests.conftest import tiny
from tests.families import GROUPED, SHAPE, words
from tests.probes.subject.test_stream_paths import MULTIPLIED

NEOX: dict[str, Any] = {"use_parallel_residual": True, "rotary_pct": 0.5}
OPT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
MIXED = {"layer_types": ["conv", "full_attention", "conv"]}
MODELS = {
    "falcon": lambda: FalconForCausalLM(FalconConfig(**SHAPE, alibi=False)),
    "lfm2": lambda: Lfm2ForCausalLM(Lfm2Config(**GROUPED, **MIXED)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**GROUPED, **MULTIPLIED)),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, **NEOX)),
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2)),
    "mamba": lambda: MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=3, state_size=8)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**OPT, max_position_embeddings=64)),
}
#: By family: scale, and by writer its path in the block, whether it mixes positions, and how many heads it has.
KNOWN = {
    "llama": (1.0, {"self_attn.o_proj": (True, 4), "mlp.down_proj": (False, 0)}),
    "gemma2": (1.0, {"post_attention_layernorm": (True, 4), "post_feedforward_layernorm": (False, 0)}),
    "gpt2": (1.0, {"attn.c_proj": (True, 4), "mlp.c_proj": (False, 0)}),
    "granite": (0.22, {"self_attn.o_proj": (True, 4), "mlp.down_proj": (False, 0)}),
    "falcon": (1.0, {"self_attention.dense": (True, 4), "mlp.dense_4h_to_h": (False, 0)}),
    "lfm2": (1.0, {"conv.out_proj": (True, 0), "self_attn.out_proj": (True, 4), "feed_forward.w2": (False, 0)}),
    "neox": (1.0, {"attention.dense": (True, 4), "mlp.dense_4h_to_h": (False, 0)}),
    "mixtral": (1.0, {"self_attn.o_proj": (True, 4), "mlp": (False, 0)}),
    "mamba": (1.0, {"mixer.out_proj": (True, 0)}),
    "opt": (1.0, {"self_attn.out_proj": (True, 4), "fc2": (False, 0)}),
}


def random(family: str) -> Subject:
    if family not in MODELS:
        return tiny(family)
    torch.manual_seed(0)
    model = MODELS[family]().eval()
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.15)
    return wrap(model, words(), f"tiny-{family}")


@pytest.mark.parametrize("family", sorted(KNOWN))
def test_writers_are_those_of_the_architecture(family: str) -> None:
    subject = random(family)
    scale, known = KNOWN[family]
    seen = {}
    for block, writers in zip(subject.blocks, stream_writers(subject), strict=True):
        paths = {module: path.removesuffix(".experts") for path, module in block.named_modules()}
        found = {paths[w.module]: (w.mixes, 0 if w.heads is None else w.heads.count) for w in writers}
        assert len(found) == len(writers) == (1 if family == "mamba" else 2)
        seen |= found
        assert [w.scale for w in writers] == pytest.approx([scale] * len(writers), rel=1e-4)
    assert seen == known


def test_a_norm_on_the_stream_itself_is_refused() -> None:
    torch.manual_seed(0)
    model = OPTForCausalLM(OPTConfig(**OPT, max_position_embeddings=64, do_layer_norm_before=False)).eval()
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.15)
    with pytest.raises(
        SubjectError, match="OPTDecoderLayer adds to the stream is not the sum of what its modules give"
    ):
        stream_writers(wrap(model, words(), "post-norm"))


def test_nothing_of_it_is_left_in_the_model() -> None:
    subject = tiny("gemma2")
    before = subject.probe_logits()
    stream_writers(subject)
    assert torch.equal(subject.probe_logits(), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in subject.model.modules())
