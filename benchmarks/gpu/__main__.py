"""The kit for a GPU: checks first, then costs on the exact shapes of known models with random weights; needs no network.

python -m benchmarks.gpu                 # all of it, into benchmarks/results/gpu.json
python -m benchmarks.gpu --rehearse      # every line of it on the CPU with tiny shapes
python -m benchmarks.gpu --only checks   # or: ceilings, gemma-2-2b, qwen3-4b, mistral-7b
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.bench.arguments import positive_integer
from benchmarks.bench.record import RESULTS
from benchmarks.gpu import ceilings, checks
from benchmarks.gpu.costs import Shape
from benchmarks.gpu.models import LARGE, SHAPES
from benchmarks.gpu.steps import Step, perform

SMALL = ("small-gemma", "small-qwen", "small-mistral")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps asked for; 1 where one failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda (default) or cuda:N")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny shapes and few items")
    parser.add_argument("--only", help=f"of checks, ceilings, {', '.join(LARGE)}; several with commas")
    parser.add_argument("--items", type=positive_integer, default=489)
    parser.add_argument("--repeats", type=positive_integer, default=5)
    parser.add_argument(
        "--seconds", type=positive_integer, default=360, help="no step begins after these (default 360)"
    )
    parser.add_argument("--out", type=Path, help="file for the figures (default: benchmarks/results/gpu.json on a GPU)")
    args = parser.parse_args(argv)
    shapes = SMALL if args.rehearse else LARGE
    names = ["ceilings", "checks", *shapes]
    asked = [name.strip() for name in args.only.split(",")] if args.only else names
    unknown = [name for name in asked if name not in (*names, *SHAPES)]
    if unknown:
        parser.error(f"no step {unknown[0]!r}; known: {', '.join(names)}")
    device = "cpu" if args.rehearse else args.device
    if device != "cpu" and not device.startswith("cuda"):
        parser.error(f"--device needs cuda or cuda:N, got {args.device!r}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device here; --rehearse runs every line on the CPU")
    out = args.out or (None if device == "cpu" else RESULTS / "gpu.json")
    if out is not None and not out.parent.is_dir():
        parser.error(f"--out {out}: there is no folder {out.parent}")
    items, repeats = (24, 1) if args.rehearse else (args.items, args.repeats)
    steps: list[Step] = []
    for name in asked:
        if name == "ceilings":
            steps.append(Step(name, lambda: ceilings.measured(device).lines()))
        elif name == "checks":
            steps += checks.steps(device, short=args.rehearse)
        else:
            steps += Shape(name, device, items, repeats).steps()
    return 1 if perform(steps, out, args.seconds) else 0


if __name__ == "__main__":
    sys.exit(main())
