"""`override-gap items`: check, convert or describe an item file, or write its documents for a method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from override_gap.margins.text import plural
from override_gap.reports.cli._args import add_chat_flags, plan_settings, writable
from override_gap.reports.cli._say import say, say_lines, say_text
from override_gap.reports.cli.main import DONE, WRONG, parser

EPILOG = """examples:
  override-gap items check mine.jsonl
  override-gap items convert counterfact.json --out mine.jsonl
  override-gap items convert counterfact.json --related --out with-neighbourhood.jsonl
  override-gap items describe benchmark --tokenizer ./my-model
  override-gap items documents benchmark --out documents.jsonl

A CSV with the columns question, answer, document is enough. check and convert say what of a file is not used.
documents: each distinct text once, with its key, the items' ids and points, and their questions, for a method that makes adapters
in an environment of its own (`override-gap adapters kit`).
"""


def main(argv: Sequence[str]) -> int:
    """Run one of the four actions on a file of items; exit code 2 if `check` finds a defect."""
    options = parser("items", EPILOG)
    options.add_argument(
        "action",
        choices=("check", "convert", "describe", "documents"),
        metavar="ACTION",
        help="check, convert, describe or documents",
    )
    options.add_argument(
        "file", metavar="FILE", help="an item file, a known data set, hf:OWNER/NAME, starter or benchmark"
    )
    options.add_argument(
        "--out", type=Path, metavar="FILE", help="for convert and documents: JSON Lines (default: stdout)"
    )
    options.add_argument(
        "--tokenizer",
        metavar="DIR",
        help="for describe: also look at the answers in this tokenizer's tokens (a folder, smollm2, organism)",
    )
    options.add_argument(
        "--related",
        action="store_true",
        help="also read the questions that a data set's own item set leaves out (CounterFact's paraphrases and neighbourhood)",
    )
    options.add_argument(
        "--prior",
        choices=("given", "from-base"),
        default="given",
        help="from-base: items without an old answer are conflicts, whose old answer an audit asks the base for",
    )
    add_chat_flags(options, "for describe with --tokenizer: ")
    args = options.parse_args(argv)
    if plan_settings(args, {"chat", "system_prompt", "chat_template"}, {}) and not args.tokenizer:
        raise ValueError("--chat and its settings are for describe with --tokenizer: a template is the tokenizer's")
    if args.out:
        writable(args.out)
    from override_gap.margins.items.documents_file import document_lines
    from override_gap.margins.items.files import json_lines, write_items
    from override_gap.margins.items.item import ItemError
    from override_gap.margins.items.scan import scan_file
    from override_gap.margins.whole_files import make_folder, write_text
    from override_gap.probes.items import item_paths
    from override_gap.probes.plan import CHAT_SETTINGS
    from override_gap.reports.cli._item_text import check, describe, in_tokens, scan_notes

    how = {"from_base": args.prior == "from-base", "related": args.related}
    if args.action == "check":
        return WRONG if check(args.file, **how) else DONE
    items, notes = [], []
    for path in item_paths(args.file):
        scan = scan_file(path, **how)
        scan.require_readable(path)
        items += [item for _, item in scan.items]
        notes += scan_notes(scan, **how)
    if not items:
        raise ItemError(f"{args.file}: no items in it; {'; '.join(notes)}")
    if args.action == "describe":
        say_text(describe(items))
        say_text("\n".join(notes), end="\n" if notes else "")
        if args.tokenizer:
            say_text(in_tokens(items, args.tokenizer, plan_settings(args, set(CHAT_SETTINGS), {})))
        return DONE
    if args.out:
        make_folder(args.out.parent)
    if args.action == "documents":
        lines = document_lines(items)
        if args.out:
            write_text(args.out, "".join(lines))
            say(f"{args.out}: {plural(len(lines), 'document')}", error=True)
        else:
            say_lines("".join(lines))
    elif args.out:
        write_items(items, args.out)
        say(f"{args.out}: {plural(len(items), 'item')}", error=True)
    else:
        say_lines(json_lines(items))
    for note in notes:
        say(note, error=True)
    return DONE
