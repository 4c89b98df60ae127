"""Make an organism: world, base, hypernetwork, examination, all from a seed, on CPU.

python -m override_gap.probes.organism.train --seed 0 --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import transformers
from torch import nn

from override_gap.probes.organism.base import BaseRecipe, train_base
from override_gap.probes.organism.evaluate import evaluate, shortfalls
from override_gap.probes.organism.examination import build_items
from override_gap.probes.organism.load import Organism, save
from override_gap.probes.organism.tokenizer import build_tokenizer
from override_gap.probes.organism.training import TeachingRecipe, teach
from override_gap.probes.organism.world import Size, build_world


@dataclass(frozen=True)
class OrganismRecipe:
    """Everything that decides an organism, but for the seed."""

    size: Size = field(default_factory=Size)
    base: BaseRecipe = field(default_factory=BaseRecipe)
    teaching: TeachingRecipe = field(default_factory=TeachingRecipe)


@torch.no_grad()
def round_to_half(module: nn.Module) -> None:
    """Round every parameter to the nearest fp16 value, in place, so that what is measured is what will be stored."""
    for parameter in module.parameters():
        parameter.copy_(parameter.half())


def train(
    seed: int, folder: Path, recipe: OrganismRecipe | None = None, log: Callable[[str], None] = print
) -> Organism:
    """Train the organism of `seed` and write it to `folder`; its recipe records the figures of the stored fp16 weights.

    One thread, so that the sums, and with them the weights, come out the same on the same machine.
    """
    recipe, start = recipe or OrganismRecipe(), time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        world = build_world(seed, recipe.size)
        tokenizer = build_tokenizer(world.vocabulary())
        base = train_base(world, recipe.base, log)
        round_to_half(base)  # taught on what will be stored
        read = time.perf_counter()
        hypernetwork = teach(world, base, tokenizer, recipe.teaching, log)
        taught = time.perf_counter()
        record = {
            "schema": 1,
            "seed": seed,
            "world": asdict(recipe.size),
            "base": asdict(recipe.base),
            "hypernetwork": {"shape": hypernetwork.settings, "scale": 1.0, "training": asdict(recipe.teaching)},
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "timing": {"base_s": round(read - start, 1), "hypernetwork_s": round(taught - read, 1)},
        }
        items = build_items(world)
        round_to_half(hypernetwork.perceiver)
        return save(folder, hypernetwork, items, record | {"figures": evaluate(hypernetwork, items)})
    finally:
        torch.set_num_threads(threads)


def main(argv: list[str] | None = None) -> int:
    """Train an organism and print its figures; exit code 1 if one misses its target."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the organism to")
    given = parser.parse_args(argv)
    organism = train(given.seed, given.out, log=lambda line: print(line, file=sys.stderr, flush=True))
    figures = organism.recipe["figures"]
    missed = shortfalls(figures)
    print(json.dumps(figures, indent=1))
    print("\n".join(missed) or "every target is met")
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())
