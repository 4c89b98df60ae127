"""What the kit's scripts share: their command line, their errors, and the questions that native logits are given for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def command_line(description: str | None, repository: str) -> argparse.ArgumentParser:
    """What the kit's scripts share; `repository` says what the folder of the method's code is."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("checkpoint", help="the method's own checkpoint")
    parser.add_argument("documents", help="documents.jsonl, from `override-gap items documents`")
    parser.add_argument("out", help="a new file")
    parser.add_argument("--repo", required=True, metavar="FOLDER", help=repository)
    parser.add_argument("--device", default="cpu", help="where the method runs (default: cpu)")
    parser.add_argument("--native", type=int, default=2, metavar="N", help="documents with native logits (default: 2)")
    parser.add_argument("--gains", metavar="GAINS", help="a number, or a gains.json: write the adapters at these gains")
    return parser


def gains_and_native(stated: str | None, native: Any) -> dict[str, Any]:
    """What `kit.write` is told of gains and native logits, which are of the method as delivered: with gains there are none."""
    if stated is None:
        return {"native": native}
    try:
        return {"gains": float(stated)}
    except ValueError:
        return {"gains": stated}


def run(main: Any) -> None:
    """Call a script's main; what goes wrong with what it was given is one line, and exit code 2."""
    try:
        main()
    except (ValueError, OSError) as fault:
        print(f"{Path(sys.argv[0]).name}: {fault}", file=sys.stderr)
        raise SystemExit(2) from fault


def native_questions(documents: Sequence[Mapping[str, Any]], count: int) -> dict[str, str]:
    """One question for each of the first `count` documents that have one, by document key."""
    asked = ((row["key"], row["questions"][0]["text"]) for row in documents if row.get("questions"))
    return dict(list(asked)[:count])
