"""Train an organism from a seed, on the CPU: world, base, hypernetwork and examination.

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
from override_gap.probes.organism.training import HypernetworkRecipe, train_hypernetwork
from override_gap.probes.organism.world import Size, build_world


@dataclass(frozen=True)
class OrganismRecipe:
    """All settings of an organism except the seed."""

    size: Size = field(default_factory=Size)
    base: BaseRecipe = field(default_factory=BaseRecipe)
    hypernetwork: HypernetworkRecipe = field(default_factory=HypernetworkRecipe)


@torch.no_grad()
def round_to_half(module: nn.Module) -> None:
    """Round every parameter to the nearest fp16 value, in place, so that evaluation uses the weights that are stored."""
    for parameter in module.parameters():
        parameter.copy_(parameter.half())


def train(
    seed: int, folder: Path, recipe: OrganismRecipe | None = None, log: Callable[[str], None] = print
) -> Organism:
    """Train the organism of `seed` and write it to `folder`; recipe.json records the figures of the stored fp16 weights.

    Runs on one thread, so that the order of sums, and with it the weights, is the same every time on one machine.
    Raises ValueError where the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder; give --out a new one")
    recipe, start = recipe or OrganismRecipe(), time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        world = build_world(seed, recipe.size)
        tokenizer = build_tokenizer(world.vocabulary())
        base = train_base(world, recipe.base, log)
        round_to_half(base)  # the hypernetwork is trained on the weights that are stored
        base_done = time.perf_counter()
        hypernetwork = train_hypernetwork(world, base, tokenizer, recipe.hypernetwork, log)
        hypernetwork_done = time.perf_counter()
        record = {
            "schema": 1,
            "seed": seed,
            "world": asdict(recipe.size),
            "base": asdict(recipe.base),
            "hypernetwork": {"shape": hypernetwork.settings, "scale": 1.0, "training": asdict(recipe.hypernetwork)},
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "timing": {
                "base_s": round(base_done - start, 1),
                "hypernetwork_s": round(hypernetwork_done - base_done, 1),
            },
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
    args = parser.parse_args(argv)
    organism = train(args.seed, args.out, log=lambda line: print(line, file=sys.stderr, flush=True))
    figures = organism.recipe["figures"]
    missed = shortfalls(figures)
    print(json.dumps(figures, indent=1))
    print("\n".join(missed) or "every target is met")
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())
