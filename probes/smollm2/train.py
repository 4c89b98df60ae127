"""Train a hypernetwork for SmolLM2-135M-Instruct on this package's statements, on the CPU; can be interrupted and resumed.

python -m override_gap.probes.smollm2.train --steps N --out FOLDER [--resume | --write]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, LlamaForCausalLM

from override_gap.margins.whole_files import make_folder, write_text
from override_gap.probes.environment import home
from override_gap.probes.smollm2.evaluate import accuracies, build_examination, first_token_successes
from override_gap.probes.smollm2.facts import Fact
from override_gap.probes.smollm2.hypernetwork import SmolLM2Hypernetwork
from override_gap.probes.smollm2.hypernetwork_folder import TrainedHypernetwork, round_to_half, save
from override_gap.probes.smollm2.known_facts import BaseKnowledge, probe_facts, sample_facts
from override_gap.probes.smollm2.statements import DocumentSampler
from override_gap.probes.smollm2.training import (
    CHECKPOINT,
    TrainingRecipe,
    new_hypernetwork,
    restore_checkpoint,
    train_steps,
)
from override_gap.probes.subject.load import open_subject

Log = Callable[[str], None]


def train(
    model: Path,
    folder: Path,
    recipe: TrainingRecipe,
    log: Log,
    *,
    resume: bool = False,
    write: bool = False,
    every: int = 50,
    size: int = 64,
) -> TrainedHypernetwork:
    """Train on the base in `model`, with an evaluation every 100 steps, and write the result to `folder`.

    With `write` no step is taken: the checkpoint is written as it is. The base computes in bfloat16 during training, which is
    twice as fast; the figures in recipe.json are those of the stored weights, with the base in float32.
    """
    checkpoint = folder / CHECKPOINT
    if checkpoint.is_file() and not (resume or write):
        raise ValueError(f"{folder}: holds a checkpoint; give --resume to continue it, or another --out")
    if write and not checkpoint.is_file():
        raise ValueError(f"{folder}: holds no checkpoint to write out; train first, without --write")
    tokenizer = AutoTokenizer.from_pretrained(model)
    base = _base(model, torch.bfloat16)
    knowledge = _base_knowledge(base, tokenizer, folder, recipe.seed)
    log(f"real facts: {len(knowledge.weak)} weakly held, {len(knowledge.known)} known")
    hypernetwork = new_hypernetwork(base, tokenizer, recipe)
    log(f"{sum(p.numel() for p in hypernetwork.network.parameters())} parameters, {recipe.steps} steps")
    if write:
        steps_taken = restore_checkpoint(checkpoint, recipe, hypernetwork.network)
        return finish(model, folder, hypernetwork, knowledge, recipe, steps_taken, log, size)
    sampler = DocumentSampler(knowledge.select(held_out=False).weak, knowledge.known, recipe.weak_share)
    examination = build_examination(knowledge, size, recipe.seed)
    start, first = time.perf_counter(), None
    for step, figures in train_steps(hypernetwork, sampler, recipe, folder, every):
        first = step if first is None else first
        seconds = (time.perf_counter() - start) / (step + 1 - first)
        minutes = seconds * (recipe.steps - step - 1) / 60
        line = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
        log(f"step {step + 1}/{recipe.steps} {line} {seconds:.1f} s/step, {minutes:.0f} min left")
        if (step + 1) % 100 == 0 and step + 1 < recipe.steps:
            log(f"held out at {step + 1}: {_as_line(_held_out_accuracies(hypernetwork, examination))}")
    return finish(model, folder, hypernetwork, knowledge, recipe, recipe.steps, log, size)


def finish(
    model: Path,
    folder: Path,
    hypernetwork: SmolLM2Hypernetwork,
    knowledge: BaseKnowledge,
    recipe: TrainingRecipe,
    steps_taken: int,
    log: Log,
    size: int,
) -> TrainedHypernetwork:
    """Round the weights to fp16, evaluate them with the base in float32, and write the folder."""
    round_to_half(hypernetwork.network)
    evaluated = SmolLM2Hypernetwork(_base(model, torch.float32), hypernetwork.tokenizer, hypernetwork.network.eval())
    successes = first_token_successes(evaluated, build_examination(knowledge, size, recipe.seed))
    log(f"held out: {_as_line(accuracies(successes))}")
    record = {
        "base": {
            "name": "SmolLM2-135M-Instruct",
            "fingerprint": open_subject(str(model), device="cpu", dtype="float32").fingerprint,
        },
        "training": asdict(recipe) | {"steps_taken": steps_taken},
        "beliefs": asdict(knowledge),
        "examination": size,
        "figures": accuracies(successes),
        "marks": {kind: "".join("-+"[success] for success in outcomes) for kind, outcomes in successes.items()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    return save(folder, evaluated, record)


def _held_out_accuracies(hypernetwork: SmolLM2Hypernetwork, examination: dict) -> dict[str, float]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return accuracies(first_token_successes(hypernetwork, examination))


def _as_line(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in figures.items())


def _base(model: Path, dtype: torch.dtype) -> LlamaForCausalLM:
    # eager attention: the fused kernel's backward pass in bfloat16 is several times slower on CPU
    base = LlamaForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation="eager")
    return base.eval().requires_grad_(False)


def _base_knowledge(base: LlamaForCausalLM, tokenizer, folder: Path, seed: int) -> BaseKnowledge:
    """Which real facts the base knows; measured once and stored in the folder."""
    file = folder / "beliefs.json"
    if not file.is_file():
        make_folder(folder)
        write_text(file, json.dumps(asdict(probe_facts(base, tokenizer, sample_facts(seed), seed))))
    return knowledge_from_json(json.loads(file.read_text()))


def knowledge_from_json(stored: dict) -> BaseKnowledge:
    """The object from its JSON form."""
    weak = tuple((Fact(**fact), tuple(objects)) for fact, objects in stored["weak"])
    return BaseKnowledge(weak, tuple((relation, question) for relation, question in stored["known"]))


def main(argv: list[str] | None = None) -> int:
    """Train and print the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--steps", type=int, default=TrainingRecipe.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the result")
    parser.add_argument("--resume", action="store_true", help="continue from the folder's checkpoint")
    parser.add_argument("--write", action="store_true", help="take no step, write the folder's checkpoint as it is")
    parser.add_argument("--held-out", type=int, default=64, help="documents per kind in the evaluation (default 64)")
    parser.add_argument("--model", type=Path, default=home() / "smollm2", help="folder of the base")
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints (default 50)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    recipe = TrainingRecipe(steps=args.steps, seed=args.seed)

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        trained = train(
            args.model,
            args.out,
            recipe,
            log,
            resume=args.resume,
            write=args.write,
            every=args.every,
            size=args.held_out,
        )
    except ValueError as fault:
        print(fault, file=sys.stderr)
        return 2
    print(json.dumps(trained.recipe["figures"], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
