"""Training of the hypernetwork against the frozen base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForCausalLM

from override_gap.probes.smollm2.hypernetwork import NetworkShape, SmolLM2Hypernetwork, SmolLM2Network, applied, read
from override_gap.probes.smollm2.statements import Author, TrainingSheet
from override_gap.probes.smollm2.training_data import SheetTensors, lower, sheet_tensors, upper

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class TrainingRecipe:
    """Settings of the hypernetwork's training."""

    steps: int = 760
    documents: int = 24
    taught: int = 1
    kept: int = 1
    learning_rate: float = 7e-4
    weight_decay: float = 0.01
    warmup: int = 30
    level: int = 200
    """Step up to which the learning rate is level; from then on it falls as one over the square root."""
    cooling: float = 0.4
    """Share of the steps at the end over which the learning rate falls to nothing."""
    sharpness: float = 0.9
    """Weight of the document's answer in the target; the rest is the base's own distribution."""
    keep: float = 0.8
    """Weight of the divergence from the base on what is to be kept."""
    weak_share: float = 0.15
    longest: int = 64
    """Tokens of a document; longer ones are drawn again."""
    rank: int = 4
    width: int = 384
    first_layer: int = 14
    seed: int = 0


def divergence(
    adapted: Float[Tensor, "read vocab"], base: Float[Tensor, "read vocab"], lesson: SheetTensors, sharpness: float
) -> Float[Tensor, " read"]:
    """KL(target || adapted) in nats; the target is the base, or sharpness * one-hot + (1 - sharpness) * base.

    The entropy of a mixed target is left out: it does not depend on the hypernetwork.
    """
    mixed = -(base.exp() * adapted).sum(-1)
    entropy = -(base.exp() * base).sum(-1)
    answer = -adapted.gather(-1, lesson.answer.clamp_min(0)[:, None])[:, 0]
    return torch.where(lesson.answer < 0, mixed - entropy, sharpness * answer + (1 - sharpness) * mixed)


def rate(step: int, recipe: TrainingRecipe) -> float:
    """Share of the learning rate: up over the warm-up, level, down slowly, then to a fiftieth over the cooling.

    Before the cooling it does not depend on the number of steps, so a course can be resumed as a longer or shorter one.
    """
    left = max(0.02, min(1.0, (recipe.steps - step) / max(1.0, recipe.cooling * recipe.steps)))
    return min((step + 1) / recipe.warmup, (recipe.level / max(recipe.level, step)) ** 0.5 * left)


def fresh(base: LlamaForCausalLM, tokenizer: Any, recipe: TrainingRecipe) -> SmolLM2Hypernetwork:
    """An untrained hypernetwork for the base, its statistics taken from documents of its own."""
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
    sheets = [Author((), ()).sheet(np.random.default_rng([recipe.seed, n]), 1, 1) for n in range(48)]
    lesson = sheet_tensors(tokenizer, sheets)
    every = replace(shape, reads=shape.writes)
    reading = read(base, every, lesson.documents)
    inside = reading.mask.clone()
    inside[:, 0] = False  # the first token's state is a sink of huge norm in models like this
    network.calibrate(
        reading.activations[:, inside].float(),
        reading.activations[:, :, 0].float().mean(1),
        reading.states[:, inside].float().norm(dim=-1).median(dim=1).values,
    )
    return SmolLM2Hypernetwork(base, tokenizer, network)


def draw(author: Author, tokenizer: Any, recipe: TrainingRecipe, step: int) -> SheetTensors:
    """The lesson of a step; a pure function of the recipe's seed and the step, so that training resumes where it was."""
    rng = np.random.default_rng([recipe.seed, 1, step])
    sheets: list[TrainingSheet] = []
    while len(sheets) < recipe.documents:
        sheet = author.sheet(rng, recipe.taught, recipe.kept)
        if len(tokenizer(sheet.document)["input_ids"]) <= recipe.longest:
            sheets.append(sheet)
    return sheet_tensors(tokenizer, sheets)


def losses(
    hypernetwork: SmolLM2Hypernetwork, lesson: SheetTensors, recipe: TrainingRecipe
) -> tuple[Tensor, dict[str, float]]:
    """The loss of one lesson, and what to print of it."""
    base, shape = hypernetwork.base, hypernetwork.network.shape
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=base.dtype == torch.bfloat16):
        factors = hypernetwork.factors(lesson.documents)
    stream = lower(base, lesson, shape.writes[0])
    with torch.no_grad():
        before = upper(base, lesson, stream, shape.writes[0])
    with applied(base, factors, lesson.whose):
        after = upper(base, lesson, stream, shape.writes[0])
    each = divergence(after, before, lesson, recipe.sharpness)
    taught, kept = lesson.answer >= 0, lesson.answer < 0
    first = each[lesson.first].mean()
    learned = 0.7 * first + 0.3 * each[taught & ~lesson.first].mean() if (taught & ~lesson.first).any() else first
    unchanged = each[kept].mean()
    right = after.argmax(-1) == lesson.answer
    shown = {
        "learned": learned.item(),
        "right": right[lesson.first].float().mean().item(),
        "kept": unchanged.item(),
        "same": (after.argmax(-1) == before.argmax(-1))[kept].float().mean().item(),
    }
    return learned + recipe.keep * unchanged, shown


def restore(
    file: Path, recipe: TrainingRecipe, network: SmolLM2Network, optimiser: torch.optim.Optimizer | None = None
) -> int:
    """Put a checkpoint's state into place and return the steps that it has behind it. Raises ValueError."""
    state = torch.load(file, weights_only=True)
    if state["recipe"] | {"steps": recipe.steps} != asdict(recipe):  # a longer or shorter course may be resumed
        raise ValueError(f"{file}: made by another recipe; give the same settings or another --out")
    network.load_state_dict(state["network"])
    if optimiser is not None:
        optimiser.load_state_dict(state["optimiser"])
    return state["step"]


def teach(
    hypernetwork: SmolLM2Hypernetwork,
    author: Author,
    recipe: TrainingRecipe,
    folder: Path | None = None,
    every: int = 50,
    stop: int | None = None,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train, yielding each step's figures; a checkpoint in `folder` every so many steps, from which it goes on.

    `stop` ends early, with a checkpoint, as a kill would.
    """
    network = hypernetwork.network
    learners = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        learners, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    kept = folder / CHECKPOINT if folder else None
    start = restore(kept, recipe, network, optimiser) if kept and kept.is_file() else 0
    for step in range(start, recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * rate(step, recipe)
        loss, shown = losses(hypernetwork, draw(author, hypernetwork.tokenizer, recipe, step), recipe)
        optimiser.zero_grad()
        loss.backward()
        shown["gradient"] = float(torch.nn.utils.clip_grad_norm_(learners, 1.0))
        optimiser.step()
        done = step + 1
        if kept and (done % every == 0 or done in (recipe.steps, stop)):
            state = {
                "recipe": asdict(recipe),
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": done,
            }
            kept.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, kept.with_suffix(".part"))
            kept.with_suffix(".part").rename(kept)
        yield step, shown
        if done == stop:
            return
