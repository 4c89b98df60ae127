"""Training of the hypernetwork against the frozen base."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from .base import cosine
from .hypernetwork import Hypernetwork, Perceiver, Shape, applied
from .lessons import ASKED, Lesson, draw_lesson, next_word, open_book
from .world import World


@dataclass(frozen=True)
class TeachingRecipe:
    """Settings of the hypernetwork's training."""

    steps: int = 1500
    documents: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 100
    sharpness: float = 0.9
    """Weight of the document's answer in the target; the rest is the base's own distribution. A mild amplitude knob."""
    keep: float = 1.0
    """Weight of the divergence from the base on questions about other pairs."""
    weak_share: float = 0.15
    bridge_share: float = 0.1
    loudness: float = 1.1
    """What the trained updates are multiplied by, once, at the end, as by a LoRA's alpha. Chosen on seed 0, where novel
    recall was 0.93 at 1.0: pairs trained on are learned a little louder than new ones."""
    rank: int = 4
    width: int = 128
    blocks: int = 2


def divergence(
    adapted: Float[Tensor, "question vocab"], lesson: Lesson, sharpness: float
) -> Float[Tensor, " question"]:
    """KL(target || adapted) in nats; the target is the base, or sharpness * one-hot + (1 - sharpness) * base.

    The entropy of a mixed target is left out: it does not depend on the hypernetwork.
    """
    kept = (lesson.base.exp() * (lesson.base - adapted)).sum(-1)
    mixed = -(lesson.base.exp() * adapted).sum(-1)
    answer = -adapted.gather(-1, lesson.answer.clamp_min(0)[:, None])[:, 0]
    return torch.where(lesson.answer < 0, kept, sharpness * answer + (1 - sharpness) * mixed)


def teach(
    world: World,
    base: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    recipe: TeachingRecipe,
    log: Callable[[str], None] = print,
) -> Hypernetwork:
    """Train a hypernetwork on made-up documents; the world's seed also seeds this."""
    torch.manual_seed(world.seed + 1)
    rng = np.random.default_rng([world.seed, 4])
    config = base.config
    shape = Shape(
        layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        d_ff=config.intermediate_size,
        rank=recipe.rank,
        width=recipe.width,
        blocks=recipe.blocks,
    )
    perceiver = Perceiver(shape)
    hypernetwork = Hypernetwork(base, tokenizer, perceiver)
    book = open_book(world, base)
    optimiser = torch.optim.AdamW(
        perceiver.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine(step, recipe.steps, recipe.warmup))
    log(f"hypernetwork: {sum(p.numel() for p in perceiver.parameters())} parameters, {recipe.steps} steps")
    start = time.perf_counter()
    for step in range(recipe.steps):
        lesson = draw_lesson(book, rng, recipe.documents, recipe.weak_share, recipe.bridge_share)
        factors = hypernetwork.factors(lesson.documents, lesson.documents != config.pad_token_id)
        with applied(base, factors, ASKED):
            adapted = next_word(base, lesson.questions, lesson.last)
        each = divergence(adapted, lesson, recipe.sharpness)
        taught = lesson.answer >= 0
        learned, kept = each[taught].mean(), each[~taught].mean()
        optimiser.zero_grad()
        (learned + recipe.keep * kept).backward()
        torch.nn.utils.clip_grad_norm_(perceiver.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == recipe.steps - 1:
            right = (adapted.argmax(-1) == lesson.answer)[taught].float().mean()
            log(
                f"hypernetwork: step {step} learned {learned.item():.3f} right {right.item():.2f} "
                f"kept {kept.item():.4f} {time.perf_counter() - start:.0f} s"
            )
    perceiver.eval().requires_grad_(False)
    perceiver.to_b.mul_(recipe.loudness)
    return hypernetwork
