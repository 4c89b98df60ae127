"""Loss and training loop of the hypernetwork, with the base frozen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import huber_loss
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from override_gap.probes.organism.base import learning_rate_factor
from override_gap.probes.organism.faults import scaled
from override_gap.probes.organism.hypernetwork import OrganismHypernetwork, Perceiver, PerceiverShape, applied
from override_gap.probes.organism.training_data import (
    QUESTIONS_PER_DOCUMENT,
    TrainingBatch,
    draw_batch,
    next_word,
    tabulate_questions,
)
from override_gap.probes.organism.world import World


@dataclass(frozen=True)
class HypernetworkRecipe:
    """Settings of the hypernetwork's training; the names are the keys of recipe.json."""

    steps: int = 3000
    documents: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 100
    rise: float = 7.5
    """Target rise of the log-odds of the document's answer, in nats, whatever the base's prior: the known truth that makes the
    organism a standard. Chosen on seeds 0 to 5 between the prior margins of novel pairs and of well-known facts."""
    loudest: float = 2.5
    """Largest gain in training. A third of the documents is trained at a gain drawn log-uniformly from 1 to this, with a
    target of gain * `rise`, so that a larger gain repairs answers for which gain 1 is too weak. Without it (seed 1, gains to
    4) a third of the failures on well-known facts never flipped. Retention is trained at gain 1 alone, so that a larger gain
    still has side effects."""
    keep: float = 3.0
    """Weight of the retention loss, the divergence from the base on questions that the document does not answer."""
    known_share: float = 0.4
    """Share of the documents that contradict a fact of the corpus. Where only rare facts were contradicted (seed 0), a fifth
    of the failures on well-known facts never flipped: the target rise was not reached there at any gain."""
    bridge_share: float = 0.1
    rank: int = 4
    width: int = 128
    blocks: int = 2


def log_odds(
    log_probs: Float[Tensor, "question vocab"], answer: Int[Tensor, " question"]
) -> tuple[Float[Tensor, " question"], Float[Tensor, "question vocab"]]:
    """Log-odds of the answer, log p(answer) - log p(not answer), in nats; and log-probabilities of the other words given that
    the word is not the answer."""
    index = answer.clamp_min(0)[:, None]
    others = log_probs.scatter(-1, index, -torch.inf)
    not_answer = others.logsumexp(-1, keepdim=True)
    return (log_probs.gather(-1, index) - not_answer)[:, 0], (others - not_answer).scatter(-1, index, 0.0)


def draw_gains(rng: np.random.Generator, recipe: HypernetworkRecipe) -> Float[Tensor, " doc"]:
    """Training gain of each document of a batch: 1 for two thirds, log-uniform from 1 to `loudest` for the rest."""
    gain = np.exp(rng.uniform(0, np.log(recipe.loudest), recipe.documents))
    gain[np.arange(recipe.documents) % 3 != 0] = 1.0
    return torch.tensor(gain, dtype=torch.float32)


def question_losses(
    adapted: Float[Tensor, "question vocab"], batch: TrainingBatch, rise: float | Float[Tensor, " question"]
) -> Float[Tensor, " question"]:
    """Loss of each question, in nats.

    Where the document answers: Huber loss of the answer's log-odds against the base's plus `rise`, plus KL(base || adapted)
    over the other words. Elsewhere: KL(base || adapted) over all words.
    """
    retention = (batch.base.exp() * (batch.base - adapted)).sum(-1)
    base_odds, base_others = log_odds(batch.base, batch.answer)
    odds, others = log_odds(adapted, batch.answer)
    weights = base_others.exp().scatter(-1, batch.answer.clamp_min(0)[:, None], 0.0)
    elsewhere = (weights * (base_others - others)).sum(-1)
    return torch.where(batch.answer < 0, retention, huber_loss(odds, base_odds + rise, reduction="none") + elsewhere)


def train_hypernetwork(
    world: World,
    base: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    recipe: HypernetworkRecipe,
    log: Callable[[str], None] = print,
) -> OrganismHypernetwork:
    """Train a hypernetwork on made-up documents; the world's seed also seeds its weights and batches."""
    torch.manual_seed(world.seed + 1)
    rng = np.random.default_rng([world.seed, 4])
    config = base.config
    shape = PerceiverShape(
        layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        d_ff=config.intermediate_size,
        rank=recipe.rank,
        width=recipe.width,
        blocks=recipe.blocks,
    )
    perceiver = Perceiver(shape)
    hypernetwork = OrganismHypernetwork(base, tokenizer, perceiver)
    table = tabulate_questions(world, base)
    optimiser = torch.optim.AdamW(
        perceiver.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, recipe.steps, recipe.warmup)
    )
    log(f"hypernetwork: {sum(p.numel() for p in perceiver.parameters())} parameters, {recipe.steps} steps")
    start = time.perf_counter()
    for step in range(recipe.steps):
        batch = draw_batch(table, rng, recipe.documents, recipe.known_share, recipe.bridge_share)
        factors = hypernetwork.factors(batch.documents, batch.documents != config.pad_token_id)
        gain = draw_gains(rng, recipe)
        with applied(base, scaled(factors, gain), QUESTIONS_PER_DOCUMENT):
            adapted = next_word(base, batch.questions, batch.last)
        question_gain = gain.repeat_interleave(QUESTIONS_PER_DOCUMENT)
        losses = question_losses(adapted, batch, recipe.rise * question_gain)
        answered = batch.answer >= 0
        answer_loss = losses[answered].mean()
        retention_loss = losses[~answered & (question_gain == 1)].mean()
        optimiser.zero_grad()
        (answer_loss + recipe.keep * retention_loss).backward()
        torch.nn.utils.clip_grad_norm_(perceiver.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == recipe.steps - 1:
            accuracy = (adapted.argmax(-1) == batch.answer)[answered].float().mean()
            log(
                f"hypernetwork: step {step} answer loss {answer_loss.item():.3f} accuracy {accuracy.item():.2f} "
                f"retention loss {retention_loss.item():.4f} {time.perf_counter() - start:.0f} s"
            )
    perceiver.eval().requires_grad_(False)
    return hypernetwork
