"""Randomly initialised models of the exact shapes of known ones, since cost does not depend on weights; items for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from override_gap.margins.items.item import Item

SMALL = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
#: Widths, depths and heads as the models' published configurations state them.
SHAPES: dict[str, Callable[[], Any]] = {
    "gemma-2-2b": lambda: Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=256000,
            hidden_size=2304,
            intermediate_size=9216,
            num_hidden_layers=26,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=256,
        )
    ),
    "qwen3-4b": lambda: Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=151936,
            hidden_size=2560,
            intermediate_size=9728,
            num_hidden_layers=36,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=True,
        )
    ),
    "mistral-7b": lambda: MistralForCausalLM(
        MistralConfig(
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
        )
    ),
    "small-gemma": lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, **HEADS)),
    "small-qwen": lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL, **HEADS)),
    "small-mistral": lambda: MistralForCausalLM(MistralConfig(**SMALL, **HEADS)),
}
LARGE = ("gemma-2-2b", "mistral-7b", "qwen3-4b")


def build(shape: str, device: str) -> Any:
    """The model in bf16, its weights drawn on the device: on a CPU billions of draws take minutes."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return SHAPES[shape]().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def words() -> PreTrainedTokenizerFast:
    """A tokenizer of 200 made-up words."""
    vocabulary = {f"w{n}": n for n in range(200)} | {"<unk>": 200}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<unk>", eos_token="<unk>")


def conflicts(count: int) -> list[Item]:
    """Conflicts of eight to sixteen words, drawn from a fixed seed."""
    draw = torch.Generator().manual_seed(0)
    items = []
    for n in range(count):
        size = int(torch.randint(8, 17, (1,), generator=draw))
        picked = torch.randperm(200, generator=draw)[: size + 2].tolist()
        question, answer, prior = " ".join(f"w{k}" for k in picked[:-2]), f"w{picked[-2]}", f"w{picked[-1]}"
        items.append(
            Item(f"c{n}", f"p{n}", "conflict", f"{question} {answer} w{n % 200}", question, answer, prior_answer=prior)
        )
    return items
