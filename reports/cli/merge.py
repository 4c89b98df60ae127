"""`override-gap merge`: the shards of one run as one run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reports.cli.main import DONE, parser

EPILOG = """examples:
  override-gap audit --config plan.toml --shard $SLURM_ARRAY_TASK_ID/16 --out shards/$SLURM_ARRAY_TASK_ID
  override-gap merge shards/* --out runs/mine
  override-gap report runs/mine
"""


def main(argv: Sequence[str]) -> int:
    """Join shards; prints the folder that holds them all."""
    made = parser("merge", EPILOG)
    made.add_argument(
        "shards", nargs="+", type=Path, metavar="RUN", help="what `audit --shard` wrote, every shard once"
    )
    made.add_argument("--out", type=Path, required=True, metavar="RUN", help="a new run folder")
    args = made.parse_args(argv)
    from probes.shards import merge

    print(f"run: {merge(args.shards, args.out)}")
    print(f"next: override-gap report {args.out}")
    return DONE
