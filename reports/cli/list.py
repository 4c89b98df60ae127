"""`override-gap list`: what can be named on the command line."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from override_gap.margins.text import one_line
from override_gap.reports.cli._say import say, say_json
from override_gap.reports.cli.main import DONE, parser

EPILOG = """examples:
  override-gap list policies
  override-gap list adapters
  override-gap list subjects --json
"""
WIDTH, WIDEST_NAME = 80, 26
"""Columns of the text, and of the names in it: a longer name stands on a line of its own, with its meaning below."""
KINDS = ("subjects", "adapters", "items", "policies", "probes")
SUBJECT_FORMS = {
    "FOLDER": "a model that save_pretrained wrote",
    "FILE.gguf": "a GGUF file",
    "ORG/NAME": "a Hugging Face id",
}
ITEM_FORMS = {
    "FILE": "items as JSON Lines, JSON, CSV or Parquet; or CounterFact, zsRE, RippleEdits, ConflictBank",
    "hf:OWNER/NAME[:SPLIT]": "the same records in a data set on the Hugging Face hub",
}


def main(argv: Sequence[str]) -> int:
    """Print the names of one kind, each with its meaning."""
    options = parser("list", EPILOG)
    options.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    options.add_argument("--json", action="store_true", help="print them as one JSON object")
    args = options.parse_args(argv)
    names = names_of(args.kind)
    if args.json:
        say_json(names)
        return DONE
    say(*name_lines(names))
    return DONE


def name_lines(names: Mapping[str, str]) -> Iterator[str]:
    """Each name with its meaning beside it, broken so that it fits WIDTH columns; the same on a terminal and in a pipe."""
    shown = {one_line(name): one_line(meaning) for name, meaning in names.items()}
    column = max(len(name) for name in shown if len(name) <= WIDEST_NAME) + 2
    for name, meaning in shown.items():
        beside = textwrap.wrap(meaning, WIDTH - column, break_on_hyphens=False)
        if len(name) > WIDEST_NAME:
            yield name
        else:
            yield f"{name:<{column}}{beside.pop(0) if beside else ''}".rstrip()
        yield from (f"{'':<{column}}{line}" for line in beside)


def names_of(kind: str) -> dict[str, str]:
    """Every name of one kind, with its meaning."""
    from override_gap.probes import catalogue

    if kind == "subjects":
        return {**catalogue.SUBJECTS, **SUBJECT_FORMS}
    if kind == "adapters":
        installed = {name: f"installed: {source}" for name, source in catalogue.installed_sources().items()}
        return {**catalogue.ADAPTERS, **installed}
    if kind == "items":
        return {**catalogue.ITEMS, **ITEM_FORMS}
    if kind == "policies":
        from override_gap.margins.condition_names import MEANING

        return MEANING
    return catalogue.PROBES
