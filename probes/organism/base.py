"""The base language model: a small Llama, trained on its corpus for one epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from override_gap.probes.organism.corpus import corpus_passages, pack
from override_gap.probes.organism.world import World


@dataclass(frozen=True)
class BaseRecipe:
    """Sizes of the base and settings of its training; the length of a corpus row is `width` tokens.

    The learning rate rises linearly for `warmup` steps and then falls along half a cosine.
    """

    layers: int = 8
    d_model: int = 64
    d_ff: int = 192
    heads: int = 4
    width: int = 40
    batch: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    warmup: int = 100


def learning_rate_factor(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate at `step`: linear rise over `warmup`, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def new_base(world: World, recipe: BaseRecipe) -> LlamaForCausalLM:
    """An untrained Llama with untied embeddings over the world's vocabulary."""
    vocabulary = world.vocabulary()
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=recipe.d_model,
        intermediate_size=recipe.d_ff,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=vocabulary.index("<bos>"),
        eos_token_id=vocabulary.index("<eos>"),
        pad_token_id=vocabulary.index("<pad>"),
        initializer_range=recipe.d_model**-0.5 / 2,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def train_base(
    world: World, recipe: BaseRecipe, log: Callable[[str], None] = print, limit: int | None = None
) -> LlamaForCausalLM:
    """Train on the corpus for one epoch with next-token cross-entropy.

    `limit` stops after that many steps, for tests. Seeds torch's generator with the world's seed.
    """
    torch.manual_seed(world.seed)
    model = new_base(world, recipe)
    rows, labels = pack(world, corpus_passages(world), recipe.width)
    steps = min(len(rows) // recipe.batch, limit or len(rows))
    log(f"base: {sum(p.numel() for p in model.parameters())} parameters, {rows.numel()} tokens, {steps} steps")
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, steps, recipe.warmup)
    )
    for step in range(steps):
        batch = slice(step * recipe.batch, (step + 1) * recipe.batch)
        logits = model(input_ids=rows[batch]).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[batch, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            log(f"base: step {step} loss {loss.item():.3f}")
    return model.eval().requires_grad_(False)
