"""`override-gap list`: what can be named on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence

from override_gap.reports.cli.main import DONE, parser

EPILOG = """examples:
  override-gap list policies
  override-gap list adapters
  override-gap list subjects --json
"""
KINDS = ("subjects", "adapters", "items", "policies", "probes")


def main(argv: Sequence[str]) -> int:
    """Print the names of one kind, a line each with what it means."""
    made = parser("list", EPILOG)
    made.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    made.add_argument("--json", action="store_true", help="print them as one JSON object")
    args = made.parse_args(argv)
    names = _names(args.kind)
    if args.json:
        print(json.dumps(names, ensure_ascii=False))
        return DONE
    width = max(map(len, names))
    for name, meaning in names.items():
        print(f"{name:<{width}}  {meaning}")
    return DONE


def _names(kind: str) -> dict[str, str]:
    if kind == "subjects":
        from override_gap.probes.catalogue import SUBJECTS

        return {
            **SUBJECTS,
            "FOLDER": "a model that save_pretrained wrote",
            "FILE.gguf": "a GGUF file",
            "ORG/NAME": "a Hugging Face id",
        }
    if kind == "adapters":
        from override_gap.probes.catalogue import ADAPTERS, installed_sources

        return {**ADAPTERS, **{name: f"installed: {where}" for name, where in installed_sources().items()}}
    if kind == "items":
        from override_gap.probes.catalogue import ITEMS

        return {
            **ITEMS,
            "FILE": "items as JSON Lines, JSON, CSV or Parquet; or CounterFact, zsRE, RippleEdits, ConflictBank",
            "hf:OWNER/NAME[:SPLIT]": "the same records in a data set on the Hugging Face hub",
        }
    if kind == "policies":
        from override_gap.margins.conditions import MEANING

        return MEANING
    from override_gap.probes.catalogue import PROBES

    return PROBES
