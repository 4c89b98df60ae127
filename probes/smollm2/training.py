"""Loss and optimisation of the hypernetwork, with the base frozen."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForCausalLM

from override_gap.margins.whole_files import make_folder, write_whole
from override_gap.probes.smollm2.hypernetwork import (
    NetworkShape,
    SmolLM2Hypernetwork,
    SmolLM2Network,
    applied,
    document_activations,
)
from override_gap.probes.smollm2.statements import DocumentSampler, TrainingDocument
from override_gap.probes.smollm2.training_data import DocumentBatch, document_batch, run_lower_layers, run_upper_layers

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class TrainingRecipe:
    """Settings of the hypernetwork's training; the names are the keys of recipe.json and of checkpoints."""

    steps: int = 760
    documents: int = 24
    taught: int = 1
    """Questions per document that the document answers."""
    kept: int = 1
    """Retention questions per document."""
    learning_rate: float = 7e-4
    weight_decay: float = 0.01
    warmup: int = 30
    level: int = 200
    """Step until which the learning rate is constant; after it, it falls as 1 / sqrt(step)."""
    cooling: float = 0.4
    """Share of the steps, at the end, over which the learning rate falls linearly, to a fiftieth."""
    sharpness: float = 0.9
    """Weight of the document's answer in the target; the rest of the weight is the base's own distribution."""
    keep: float = 0.8
    """Weight of the retention loss, the divergence from the base on retention questions."""
    weak_share: float = 0.15
    longest: int = 64
    """Largest number of tokens of a document; longer ones are sampled again."""
    rank: int = 4
    width: int = 384
    first_layer: int = 14
    seed: int = 0


def divergence(
    adapted: Float[Tensor, "read vocab"], base: Float[Tensor, "read vocab"], batch: DocumentBatch, sharpness: float
) -> Float[Tensor, " read"]:
    """KL(target || adapted) in nats; the target is the base, or sharpness * one-hot + (1 - sharpness) * base.

    The entropy of a mixed target is left out, since it does not depend on the hypernetwork.
    """
    cross_entropy = -(base.exp() * adapted).sum(-1)
    entropy = -(base.exp() * base).sum(-1)
    answer = -adapted.gather(-1, batch.answer.clamp_min(0)[:, None])[:, 0]
    return torch.where(batch.answer < 0, cross_entropy - entropy, sharpness * answer + (1 - sharpness) * cross_entropy)


def learning_rate_factor(step: int, recipe: TrainingRecipe) -> float:
    """Share of the peak learning rate: rising over `warmup`, constant to `level`, then 1 / sqrt(step), falling over `cooling`.

    Before the cooling it does not depend on the number of steps, so training can be resumed with more or fewer steps.
    """
    left = max(0.02, min(1.0, (recipe.steps - step) / max(1.0, recipe.cooling * recipe.steps)))
    return min((step + 1) / recipe.warmup, (recipe.level / max(recipe.level, step)) ** 0.5 * left)


def new_hypernetwork(base: LlamaForCausalLM, tokenizer: Any, recipe: TrainingRecipe) -> SmolLM2Hypernetwork:
    """An untrained hypernetwork for the base, its normalisation statistics measured on 48 sampled documents."""
    torch.manual_seed(recipe.seed)
    config = base.config
    layers = config.num_hidden_layers
    shape = NetworkShape(
        reads=tuple(
            sorted({min(round(layers * share), layers - 1) for share in (0.13, 0.27, 0.4, 0.53, 0.67, 0.8, 0.93)})
        ),
        writes=tuple(range(recipe.first_layer, layers)),
        d_model=config.hidden_size,
        d_ff=config.intermediate_size,
        rank=recipe.rank,
        width=recipe.width,
    )
    network = SmolLM2Network(shape)
    documents = [DocumentSampler((), ()).sample(np.random.default_rng([recipe.seed, n]), 1, 1) for n in range(48)]
    ids = [tokenizer(document.text)["input_ids"] for document in documents]
    activations = document_activations(base, replace(shape, reads=shape.writes), ids)
    measured = activations.mask.clone()
    measured[:, 0] = False  # the first token's state is an attention sink of huge norm in models like this
    network.calibrate(
        activations.mlp[:, measured].float(),
        activations.mlp[:, :, 0].float().mean(1),
        activations.residual[:, measured].float().norm(dim=-1).median(dim=1).values,
    )
    return SmolLM2Hypernetwork(base, tokenizer, network)


def draw_batch(sampler: DocumentSampler, tokenizer: Any, recipe: TrainingRecipe, step: int) -> DocumentBatch:
    """The batch of a step; a pure function of the recipe's seed and the step, so resumed training sees the same batches."""
    rng = np.random.default_rng([recipe.seed, 1, step])
    documents: list[TrainingDocument] = []
    while len(documents) < recipe.documents:
        document = sampler.sample(rng, recipe.taught, recipe.kept)
        if len(tokenizer(document.text)["input_ids"]) <= recipe.longest:
            documents.append(document)
    return document_batch(tokenizer, documents)


def batch_loss(
    hypernetwork: SmolLM2Hypernetwork, batch: DocumentBatch, recipe: TrainingRecipe
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Loss of one batch, answer loss + keep * retention loss; and figures for the log."""
    base, shape = hypernetwork.base, hypernetwork.network.shape
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=base.dtype == torch.bfloat16):
        factors = hypernetwork.factors(batch.documents)
    residual = run_lower_layers(base, batch, shape.writes[0])
    with torch.no_grad():
        before = run_upper_layers(base, batch, residual, shape.writes[0])
    with applied(base, factors, batch.document_of):
        after = run_upper_layers(base, batch, residual, shape.writes[0])
    divergences = divergence(after, before, batch, recipe.sharpness)
    later, retained = (batch.answer >= 0) & ~batch.first, batch.answer < 0
    first_loss = divergences[batch.first].mean()
    answer_loss = 0.7 * first_loss + 0.3 * divergences[later].mean() if later.any() else first_loss
    retention_loss = divergences[retained].mean()
    correct = after.argmax(-1) == batch.answer
    figures = {
        "answer loss": answer_loss.item(),
        "accuracy": correct[batch.first].float().mean().item(),
        "retention loss": retention_loss.item(),
        "unchanged": (after.argmax(-1) == before.argmax(-1))[retained].float().mean().item(),
    }
    return answer_loss + recipe.keep * retention_loss, figures


def restore_checkpoint(
    file: Path, recipe: TrainingRecipe, network: SmolLM2Network, optimiser: torch.optim.Optimizer | None = None
) -> int:
    """Load a checkpoint into network and optimiser; returns the number of steps taken.

    Raises ValueError where the checkpoint's recipe differs in more than the number of steps.
    """
    state = torch.load(file, weights_only=True)
    if state["recipe"] | {"steps": recipe.steps} != asdict(recipe):
        raise ValueError(f"{file}: made by another recipe; give the same settings or another --out")
    network.load_state_dict(state["network"])
    if optimiser is not None:
        optimiser.load_state_dict(state["optimiser"])
    return state["step"]


def train_steps(
    hypernetwork: SmolLM2Hypernetwork,
    sampler: DocumentSampler,
    recipe: TrainingRecipe,
    folder: Path | None = None,
    every: int = 50,
    stop: int | None = None,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train, yielding each step's number and figures; resumes from the checkpoint in `folder`, written every `every` steps.

    `stop` ends early, with a checkpoint, as an interruption would.
    """
    network = hypernetwork.network
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    checkpoint = folder / CHECKPOINT if folder else None
    start = restore_checkpoint(checkpoint, recipe, network, optimiser) if checkpoint and checkpoint.is_file() else 0
    for step in range(start, recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * learning_rate_factor(step, recipe)
        loss, figures = batch_loss(hypernetwork, draw_batch(sampler, hypernetwork.tokenizer, recipe, step), recipe)
        optimiser.zero_grad()
        loss.backward()
        figures["gradient norm"] = float(torch.nn.utils.clip_grad_norm_(parameters, 1.0))
        optimiser.step()
        steps_taken = step + 1
        if checkpoint and (steps_taken % every == 0 or steps_taken in (recipe.steps, stop)):
            state = {
                "recipe": asdict(recipe),
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": steps_taken,
            }
            make_folder(checkpoint.parent)
            write_whole(checkpoint, functools.partial(torch.save, state))
        yield step, figures
        if steps_taken == stop:
            return
