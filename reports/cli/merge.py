"""`override-gap merge`: the shards of one run merged into one run folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from override_gap.reports.cli._args import run_folder, writable
from override_gap.reports.cli._say import say, teller
from override_gap.reports.cli.main import DONE, parser

EPILOG = """examples:
  override-gap audit --config plan.toml --shard $SLURM_ARRAY_TASK_ID/16 --out shards/$SLURM_ARRAY_TASK_ID
  override-gap merge shards/* --out runs/mine
  override-gap report runs/mine
"""


def main(argv: Sequence[str]) -> int:
    """Merge shards; prints the merged run folder."""
    command = parser("merge", EPILOG)
    command.add_argument(
        "shards",
        nargs="+",
        type=run_folder,
        metavar="RUN",
        help="run folders that `audit --shard` wrote, each shard once",
    )
    command.add_argument("--out", type=run_folder, required=True, metavar="RUN", help="a new run folder")
    args = command.parse_args(argv)
    writable(args.out, folder=True)
    from override_gap.probes.run.shards import merge

    say(f"run: {merge(args.shards, args.out, teller())}")
    say(f"next: override-gap report {shlex.quote(str(args.out))}")
    return DONE
