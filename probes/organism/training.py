"""Training of the hypernetwork against the frozen base."""

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

from override_gap.probes.organism.base import cosine
from override_gap.probes.organism.faults import scaled
from override_gap.probes.organism.hypernetwork import OrganismHypernetwork, Perceiver, PerceiverShape, applied
from override_gap.probes.organism.training_data import ASKED, TrainingBatch, draw_batch, next_word, open_book
from override_gap.probes.organism.world import World


@dataclass(frozen=True)
class TeachingRecipe:
    """Settings of the hypernetwork's training."""

    steps: int = 3000
    documents: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 100
    rise: float = 7.5
    """By how many nats a document is to raise the log-odds of its answer, whatever the base holds: the truth that the
    organism is a standard for. Chosen on seeds 0 to 5 between the prior margins of novel pairs and of well-known facts."""
    loudest: float = 2.5
    """A third of the documents is taught at a gain drawn log-uniformly from 1 to this, to raise its answer by as
    many times `rise`: amplitude then repairs what it was too weak for. Without it (seed 1, gains to 4) a third of the
    failures on well-known facts never flipped. What a document must leave alone is taught at gain 1 only, so that
    amplitude keeps its price."""
    keep: float = 3.0
    """Weight of the divergence from the base on questions about other pairs."""
    known_share: float = 0.4
    """Share of the documents that contradict a fact of the corpus. Where only rare facts were contradicted (seed 0), a fifth
    of the failures on well-known facts never flipped: the rise asked for was not reached there at any gain."""
    bridge_share: float = 0.1
    rank: int = 4
    width: int = 128
    blocks: int = 2


def log_odds(
    log_probs: Float[Tensor, "question vocab"], answer: Int[Tensor, " question"]
) -> tuple[Float[Tensor, " question"], Float[Tensor, "question vocab"]]:
    """log p(answer) - log p(not answer) in nats, and the log-probabilities given that it is not the answer."""
    chosen = answer.clamp_min(0)[:, None]
    others = log_probs.scatter(-1, chosen, -torch.inf)
    none_of_it = others.logsumexp(-1, keepdim=True)
    return (log_probs.gather(-1, chosen) - none_of_it)[:, 0], (others - none_of_it).scatter(-1, chosen, 0.0)


def draw_gains(rng: np.random.Generator, recipe: TeachingRecipe) -> Float[Tensor, " doc"]:
    """The gain at which each document of a batch is taught: 1 for all but every third."""
    gain = np.exp(rng.uniform(0, np.log(recipe.loudest), recipe.documents))
    gain[np.arange(recipe.documents) % 3 != 0] = 1.0
    return torch.tensor(gain, dtype=torch.float32)


def loss_of(
    adapted: Float[Tensor, "question vocab"], lesson: TrainingBatch, rise: float | Float[Tensor, " question"]
) -> Float[Tensor, " question"]:
    """Where the document asks for an answer: how far its log-odds are from the base's plus `rise` (Huber, nats), plus
    KL(base || adapted) over the other words; elsewhere KL(base || adapted) over all."""
    kept = (lesson.base.exp() * (lesson.base - adapted)).sum(-1)
    before, others = log_odds(lesson.base, lesson.answer)
    after, moved = log_odds(adapted, lesson.answer)
    spared = others.exp().scatter(-1, lesson.answer.clamp_min(0)[:, None], 0.0)
    beside = (spared * (others - moved)).sum(-1)
    return torch.where(lesson.answer < 0, kept, huber_loss(after, before + rise, reduction="none") + beside)


def teach(
    world: World,
    base: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    recipe: TeachingRecipe,
    log: Callable[[str], None] = print,
) -> OrganismHypernetwork:
    """Train a hypernetwork on made-up documents; the world's seed also seeds this."""
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
    book = open_book(world, base)
    optimiser = torch.optim.AdamW(
        perceiver.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine(step, recipe.steps, recipe.warmup))
    log(f"hypernetwork: {sum(p.numel() for p in perceiver.parameters())} parameters, {recipe.steps} steps")
    start = time.perf_counter()
    for step in range(recipe.steps):
        lesson = draw_batch(book, rng, recipe.documents, recipe.known_share, recipe.bridge_share)
        factors = hypernetwork.factors(lesson.documents, lesson.documents != config.pad_token_id)
        gain = draw_gains(rng, recipe)
        with applied(base, scaled(factors, gain), ASKED):
            adapted = next_word(base, lesson.questions, lesson.last)
        loud = gain.repeat_interleave(ASKED)
        each = loss_of(adapted, lesson, recipe.rise * loud)
        taught = lesson.answer >= 0
        learned, kept = each[taught].mean(), each[~taught & (loud == 1)].mean()
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
    return hypernetwork
