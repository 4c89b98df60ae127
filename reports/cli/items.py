"""`override-gap items`: check, convert or describe an item file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from margins.items import Item, documents_of, write_items
from reports.cli.main import DONE, WRONG, parser
from reports.cli.named import items_of


def main(argv: Sequence[str]) -> int:
    """Run one of the three actions on a file."""
    made = parser(
        "items",
        "examples:\n  override-gap items check mine.jsonl\n  override-gap items convert counterfact.json --out mine.jsonl\n",
    )
    made.add_argument(
        "action", choices=("check", "convert", "describe"), metavar="ACTION", help="check, convert or describe"
    )
    made.add_argument("file", metavar="FILE", help="an item file, a CounterFact file, or starter")
    made.add_argument("--out", type=Path, metavar="FILE", help="convert: where the JSON Lines go (default: stdout)")
    args = made.parse_args(argv)
    items = items_of(args.file)
    if args.action == "check":
        return _check(items)
    if args.action == "convert":
        write_items(items, args.out or Path("/dev/stdout"))
        return DONE
    print(_describe(items))
    return DONE


def _check(items: Sequence[Item]) -> int:
    """Print every defect; exit code 2 if there is any."""
    defects = [(item.id, item.defect()) for item in items]
    found = [f"{name}: {defect}" for name, defect in defects if defect]
    print("\n".join(found) if found else f"{len(items)} items, no defect")
    if found:
        print(f"{len(found)} of {len(items)} items have a defect", file=sys.stderr)
    return WRONG if found else DONE


def _describe(items: Sequence[Item]) -> str:
    splits = Counter((item.split, item.tier or "") for item in items)
    points = len({item.point for item in items})
    lines = [f"{len(items)} items, {points} knowledge points, {len(documents_of(items))} documents"]
    lines += [f"  {split:<12}{tier:<8}{count}" for (split, tier), count in sorted(splits.items())]
    lengths = sorted(len(item.document.split()) for item in items)
    lines.append(f"document length in words: {lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}")
    return "\n".join(lines)
