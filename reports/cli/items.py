"""`override-gap items`: check, convert or describe an item file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from override_gap.margins.items.files import json_lines, scan_items, write_items
from override_gap.margins.items.item import Item, documents_of
from override_gap.margins.text import plural
from override_gap.probes.items import item_paths, open_items
from override_gap.reports.cli._args import writable
from override_gap.reports.cli.main import DONE, WRONG, parser
from override_gap.reports.text import escape_control_characters

EXAMPLES = """examples:
  override-gap items check mine.jsonl
  override-gap items convert counterfact.json --out mine.jsonl
  override-gap items describe benchmark --tokenizer ./my-model
"""
SHOWN = 5


def main(argv: Sequence[str]) -> int:
    """Run one of the three actions on a file."""
    made = parser("items", EXAMPLES)
    made.add_argument(
        "action", choices=("check", "convert", "describe"), metavar="ACTION", help="check, convert or describe"
    )
    made.add_argument(
        "file", metavar="FILE", help="an item file, a known data set, hf:OWNER/NAME, starter or benchmark"
    )
    made.add_argument("--out", type=Path, metavar="FILE", help="convert: where the JSON Lines go (default: stdout)")
    made.add_argument(
        "--tokenizer",
        metavar="DIR",
        help="describe: the answers in this tokenizer's tokens (a folder, smollm2, organism)",
    )
    args = made.parse_args(argv)
    if args.action == "check":
        return _check(args.file)
    if args.out:
        writable(args.out)
    items = open_items(args.file)
    if args.action == "convert":
        if args.out:
            write_items(items, args.out)
        else:
            sys.stdout.write(json_lines(items))
        return DONE
    print(_describe(items))
    if args.tokenizer:
        print(_in_tokens(items, args.tokenizer))
    return DONE


def _check(spec: str) -> int:
    """Print every defect with its line; exit code 2 if there is any."""
    sound, count, told = 0, 0, []
    for path in item_paths(spec):
        found, faults = scan_items(path)
        wrong = [(line, f"{item.id}: {defect}") for line, item in found for defect in item.defects()]
        count += len(found)
        sound += sum(not item.defects() for _, item in found)
        told += [escape_control_characters(f"{path}:{line}: {message}") for line, message in sorted(faults + wrong)]
    print("\n".join(told) if told else f"{plural(count, 'item')}, no defect")
    if told:
        print(f"{plural(len(told), 'defect')}; {plural(sound, 'item')} without any", file=sys.stderr)
    return WRONG if told else DONE


def _describe(items: Sequence[Item]) -> str:
    splits = Counter((item.split, item.tier or "") for item in items)
    points = len({item.point for item in items})
    documents = documents_of(items)
    counts = (plural(len(items), "item"), plural(points, "knowledge point"), plural(len(documents), "document"))
    lines = [", ".join(counts)]
    lines += [f"  {split:<12}{tier:<8}{count}" for (split, tier), count in sorted(splits.items())]
    for name, texts in (
        ("document", [document.text for document in documents]),
        ("question", [item.question for item in items]),
        ("answer", [item.answer for item in items]),
    ):
        lengths = sorted(len(text.split()) for text in texts)
        lines.append(f"{name} length in words: {lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}")
    return "\n".join(lines)


def _in_tokens(items: Sequence[Item], spec: str) -> str:
    """What is harder to measure under one tokenizer, by kind, the first few items of each named."""
    from override_gap.probes.subject.load import open_tokenizer
    from override_gap.probes.subject.tokens import tokenize_items

    found = tokenize_items(open_tokenizer(spec), items)
    kinds = {
        "cannot be measured": [f"{one.item.id}: {one.fault}" for one in found if one.fault],
        "answers share their first tokens, so the margin is read after them": [
            f"{one.item.id}: {one.n_shared} shared" for one in found if one.n_shared
        ],
        "answers of several tokens, of which the margin reads one": [
            f"{one.item.id}: {one.n_answer} tokens" for one in found if one.n_answer > 1
        ],
    }
    lines = [f"in the tokens of {spec}:"]
    for kind, told in kinds.items():
        lines.append(f"  {kind}: {len(told)} of {len(items)}")
        lines += [escape_control_characters(f"    {one}") for one in told[:SHOWN]]
        lines += [f"    and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
    return "\n".join(lines)
