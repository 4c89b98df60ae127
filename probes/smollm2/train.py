"""Train a hypernetwork for SmolLM2-135M-Instruct on statements of this package, on CPU; resumes where it stopped.

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

from override_gap.probes.environment import home
from override_gap.probes.smollm2.evaluate import examination, figures, marks
from override_gap.probes.smollm2.facts import Fact
from override_gap.probes.smollm2.hypernetwork import SmolLM2Hypernetwork
from override_gap.probes.smollm2.known_facts import Beliefs, judge, sample
from override_gap.probes.smollm2.load import Shipped, round_to_half, save
from override_gap.probes.smollm2.statements import Author
from override_gap.probes.smollm2.training import CHECKPOINT, TrainingRecipe, fresh, restore, teach
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
) -> Shipped:
    """Train on the base in `model`, evaluating now and then, and write the result to `folder`.

    With `write` no step is taken: the checkpoint is written as it is.

    The base computes in bfloat16 here, which is twice as fast; the figures of the recipe are of float32 and the stored
    weights.
    """
    stored = folder / CHECKPOINT
    if stored.is_file() and not (resume or write):
        raise ValueError(f"{folder}: holds a checkpoint; give --resume to go on, or another --out")
    if write and not stored.is_file():
        raise ValueError(f"{folder}: holds no checkpoint to write out; train first, without --write")
    tokenizer = AutoTokenizer.from_pretrained(model)
    base = _base(model, torch.bfloat16)
    beliefs = _beliefs(base, tokenizer, folder, recipe.seed)
    log(f"real facts: {len(beliefs.weak)} weakly held, {len(beliefs.known)} known")
    hypernetwork = fresh(base, tokenizer, recipe)
    log(f"{sum(p.numel() for p in hypernetwork.network.parameters())} parameters, {recipe.steps} steps")
    if write:
        done = restore(stored, recipe, hypernetwork.network)
        return finish(model, folder, hypernetwork, beliefs, recipe, done, log, size)
    author = Author(beliefs.part(False).weak, beliefs.known, recipe.weak_share)
    sheets = examination(beliefs, size, recipe.seed)
    start, first = time.perf_counter(), None
    for step, shown in teach(hypernetwork, author, recipe, folder, every):
        first = step if first is None else first
        spent = time.perf_counter() - start
        left = spent / (step + 1 - first) * (recipe.steps - step - 1)
        words = " ".join(f"{name} {value:.3f}" for name, value in shown.items())
        log(f"step {step + 1}/{recipe.steps} {words} {spent / (step + 1 - first):.1f} s/step, {left / 60:.0f} min left")
        if (step + 1) % 100 == 0 and step + 1 < recipe.steps:
            log(f"held out at {step + 1}: {_shown(_evaluated(hypernetwork, sheets))}")
    return finish(model, folder, hypernetwork, beliefs, recipe, recipe.steps, log, size)


def finish(
    model: Path,
    folder: Path,
    hypernetwork: SmolLM2Hypernetwork,
    beliefs: Beliefs,
    recipe: TrainingRecipe,
    done: int,
    log: Log,
    size: int,
) -> Shipped:
    """Round to what is stored, measure it on the base in float32, and write the folder."""
    round_to_half(hypernetwork.network)
    whole = SmolLM2Hypernetwork(_base(model, torch.float32), hypernetwork.tokenizer, hypernetwork.network.eval())
    found = marks(whole, examination(beliefs, size, recipe.seed))
    log(f"held out: {_shown(figures(found))}")
    record = {
        "base": {
            "name": "SmolLM2-135M-Instruct",
            "fingerprint": open_subject(str(model), device="cpu", dtype="float32").fingerprint,
        },
        "training": asdict(recipe) | {"steps_taken": done},
        "beliefs": asdict(beliefs),
        "examination": size,
        "figures": figures(found),
        "marks": {kind: "".join("-+"[mark] for mark in some) for kind, some in found.items()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    return save(folder, whole, record)


def _evaluated(hypernetwork: SmolLM2Hypernetwork, sheets: dict) -> dict[str, float]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return figures(marks(hypernetwork, sheets))


def _shown(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in figures.items())


def _base(model: Path, dtype: torch.dtype) -> LlamaForCausalLM:
    # eager attention: the fused kernel's backward pass in bfloat16 is several times slower on CPU
    base = LlamaForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation="eager")
    return base.eval().requires_grad_(False)


def _beliefs(base: LlamaForCausalLM, tokenizer, folder: Path, seed: int) -> Beliefs:
    """Judged once and kept in the folder."""
    kept = folder / "beliefs.json"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(judge(base, tokenizer, sample(seed), seed))))
    return beliefs_of(json.loads(kept.read_text()))


def beliefs_of(stored: dict) -> Beliefs:
    """Beliefs from their JSON form."""
    weak = tuple((Fact(**fact), tuple(objects)) for fact, objects in stored["weak"])
    return Beliefs(weak, tuple((relation, question) for relation, question in stored["known"]))


def main(argv: list[str] | None = None) -> int:
    """Train and print the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--steps", type=int, default=TrainingRecipe.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the result")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--write", action="store_true", help="take no step: write the folder's checkpoint as it is")
    parser.add_argument(
        "--held-out", type=int, default=64, help="statements of each kind to be measured on (default 64)"
    )
    parser.add_argument("--model", type=Path, default=home() / "smollm2", help="folder of the base")
    parser.add_argument("--every", type=int, default=50, help="steps from checkpoint to checkpoint")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    recipe = TrainingRecipe(steps=given.steps, seed=given.seed)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        made = train(
            given.model,
            given.out,
            recipe,
            say,
            resume=given.resume,
            write=given.write,
            every=given.every,
            size=given.held_out,
        )
    except ValueError as fault:
        print(fault, file=sys.stderr)
        return 2
    print(json.dumps(made.recipe["figures"], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
