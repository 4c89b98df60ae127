"""`override-gap items`: check, convert or describe an item file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from override_gap.reports.cli._args import writable
from override_gap.reports.cli.main import DONE, WRONG, parser

EPILOG = """examples:
  override-gap items check mine.jsonl
  override-gap items convert counterfact.json --out mine.jsonl
  override-gap items describe benchmark --tokenizer ./my-model
"""


def main(argv: Sequence[str]) -> int:
    """Run one of the three actions on a file of items; exit code 2 if `check` finds a defect."""
    options = parser("items", EPILOG)
    options.add_argument(
        "action", choices=("check", "convert", "describe"), metavar="ACTION", help="check, convert or describe"
    )
    options.add_argument(
        "file", metavar="FILE", help="an item file, a known data set, hf:OWNER/NAME, starter or benchmark"
    )
    options.add_argument("--out", type=Path, metavar="FILE", help="for convert: output, JSON Lines (default: stdout)")
    options.add_argument(
        "--tokenizer",
        metavar="DIR",
        help="for describe: also look at the answers in this tokenizer's tokens (a folder, smollm2, organism)",
    )
    args = options.parse_args(argv)
    if args.out:
        writable(args.out)
    from override_gap.margins.items.files import json_lines, write_items
    from override_gap.probes.items import open_items
    from override_gap.reports.cli._item_text import check, describe, in_tokens

    if args.action == "check":
        return WRONG if check(args.file) else DONE
    items = open_items(args.file)
    if args.action == "describe":
        print(describe(items))
        if args.tokenizer:
            print(in_tokens(items, args.tokenizer))
    elif args.out:
        write_items(items, args.out)
    else:
        sys.stdout.write(json_lines(items))
    return DONE
