"""`override-gap index`: a folder of runs as one table with their verdicts, on a page and on the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from override_gap.reports.cli._args import require_folder, run_folder, writable
from override_gap.reports.cli._say import say, say_json, say_text
from override_gap.reports.cli.main import DONE, parser

if TYPE_CHECKING:
    from override_gap.reports.index import Index

EPILOG = """examples:
  override-gap index runs/
  override-gap index runs/ --out overview.html
  override-gap index runs/ --check --json

The page is FOLDER/index.html unless --out names another; nothing else is written. Links are not followed. A run that is
damaged, or not finished, is a row with the reason.
"""
WIDTH, NAME, CELL = 80, 29, 15


def main(argv: Sequence[str]) -> int:
    """Write the page of a folder of runs and print its table."""
    options = parser("index", EPILOG)
    options.add_argument(
        "folder", type=run_folder, metavar="FOLDER", help="a folder that holds run folders, at any depth"
    )
    options.add_argument("--out", type=Path, metavar="FILE", help="the page (default: FOLDER/index.html)")
    options.add_argument(
        "--check",
        action="store_true",
        help="also compare every table of every run with its checksum, which takes longer",
    )
    options.add_argument("--json", action="store_true", help="print every row as JSON on stdout")
    args = options.parse_args(argv)
    require_folder(args.folder)
    from override_gap.reports.index import index

    out = args.out or args.folder / "index.html"
    if args.out:
        writable(out)
    found = index(args.folder, args.check)
    if not args.out:
        writable(out)
    from override_gap.reports.page.index import write_index

    write_index(found, out)
    if args.json:
        say_json(found.as_json())
        return DONE
    say_text(table(found))
    say(f"page: {out}")
    return DONE


def table(found: Index) -> str:
    """Every run in 80 columns: verdict, shares as delivered, what to do; a run without numbers with the reason."""
    from override_gap.margins.text import one_line
    from override_gap.reports.index import in_words

    lines = [f"{'run':<{NAME}} {'verdict':<17} {'overridden':<{CELL}} {'unrelated kept':<{CELL}}".rstrip()]
    for row in found.rows:
        name = _cut(one_line(row.run), NAME)
        if row.fault:
            lines += [name, *textwrap.wrap(one_line(row.fault), WIDTH, initial_indent="  ", subsequent_indent="  ")]
            continue
        kept = _cell(row.kept) if row.kept else "not measured"
        label = _cut(one_line(row.label or "no verdict"), 17)
        lines.append(f"{name:<{NAME}} {label:<17} {_cell(row.overridden):<{CELL}} {kept:<{CELL}}".rstrip())
        if advice := in_words(row):
            lines.append(_cut(f"  {one_line(advice)}", WIDTH))
    return "\n".join(lines)


def _cell(share: Any) -> str:
    if share is None:
        return "-"
    value = f"{100 * share['value']:z.0f}%"
    return value if share["low"] is None else f"{value} [{100 * share['low']:z.0f}, {100 * share['high']:z.0f}]"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
