"""`override-gap organism train`: train the shipped organism again, or one of another seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from override_gap.margins.whole_files import make_folder
from override_gap.reports.cli._args import writable
from override_gap.reports.cli._say import say, teller
from override_gap.reports.cli.main import DONE, UNMEASURED, parser

EPILOG = """examples:
  override-gap organism train --out organisms/0
  override-gap organism train --seed 1 --out organisms/1
  override-gap audit --subject organisms/1/model --adapters hypernetwork --items organisms/1/items.jsonl

Exit code 0: every target is met; 1: trained, but a figure is below its target.
"""


def main(argv: Sequence[str]) -> int:
    """Train world, model and hypernetwork from a seed; exit code 1 if a figure is below its target."""
    arguments = parser("organism", EPILOG)
    arguments.add_argument("action", choices=("train",), metavar="ACTION", help="train")
    arguments.add_argument("--seed", type=int, default=0, help="seed of the world and of both trainings (default 0)")
    arguments.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder for the organism")
    args = arguments.parse_args(argv)
    if args.seed < 0:
        raise ValueError(f"--seed needs a whole number of at least 0, got {args.seed}")
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"{args.out} is a file; --out needs a folder")
    if args.out.exists() and any(args.out.iterdir()):
        raise ValueError(f"{args.out} is not empty; give --out a new folder")
    try:  # checked before the training, which takes minutes
        make_folder(args.out)
    except OSError as error:
        raise ValueError(f"{args.out}: cannot be written: {error.strerror}") from None
    writable(args.out, folder=True)
    from override_gap.probes.organism.evaluate import shortfalls
    from override_gap.probes.organism.train import train

    organism = train(args.seed, args.out, log=teller())
    figures = organism.recipe["figures"]
    missed = shortfalls(figures)
    say(*(missed or ["every target is met"]))
    say(
        f"audit it: override-gap audit --subject {args.out}/model --adapters hypernetwork --items {args.out}/items.jsonl"
    )
    return UNMEASURED if missed else DONE
