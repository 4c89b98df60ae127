"""Tiny random causal models of the families that the toolkit supports, built from configs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

WORDS = (
    "<pad> <unk> </s> alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau "
    "upsilon phi chi psi omega . , one two three four five six seven eight nine ten red green blue"
).split()
SHAPE = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = {**SHAPE, "num_key_value_heads": 2}

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED)),
    # small caps, so that the cap bends these small logits as 30 bends a real model's
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(**GROUPED, head_dim=8, final_logit_softcapping=2.0, attn_logit_softcapping=5.0)
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_embd=32, n_inner=48, n_layer=3, n_head=4, n_positions=64)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**GROUPED)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=16)),
}
DOWN = {"gpt2": ("mlp.c_proj",)}
MANY = {"gpt2": ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")}


def build(family: str, seed: int = 0) -> tuple[Any, PreTrainedTokenizerFast]:
    """A model with weights large enough that its norms, biases and caps all matter, and its tokenizer."""
    torch.manual_seed(seed)
    model = FAMILIES[family]().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn_like(weight) * (0.15 if weight.ndim > 1 else 0.3))
            assert weight.isfinite().all(), name
    return model, words()


def words() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="<pad>")


def down(family: str) -> tuple[str, ...]:
    """How the paths of the family's down projections end."""
    return DOWN.get(family, ("down_proj",))


def many(family: str) -> tuple[str, ...]:
    """How the paths of the family's linear maps end, all kinds of them."""
    return MANY.get(family, ("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
