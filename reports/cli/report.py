"""`override-gap report`: statistics and page from stored readings; no model is opened."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reports.cli.main import DONE, parser


def main(argv: Sequence[str]) -> int:
    """Rebuild summary.json and report.html of a run."""
    made = parser("report", "example:\n  override-gap report runs/audit --out audit.html\n")
    made.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    made.add_argument("--out", type=Path, metavar="FILE", help="where the page goes (default: RUN/report.html)")
    made.add_argument("--json", action="store_true", help="print summary.json on stdout")
    made.add_argument("--quiet", action="store_true", help="no progress")
    args = made.parse_args(argv)
    say = (lambda text: None) if args.quiet else (lambda text: print(text, file=sys.stderr))
    summary, page = rebuild(args.run, say, args.out)
    if args.json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        from reports.cli.digest import digest

        print(digest(summary))
        print(f"report: {page}")
    return DONE


def rebuild(run: Path, say: Callable[[str], None], out: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Write RUN/summary.json, RUN/figures and the page; returns the summary and where the page is."""
    from analyses.frame import load
    from analyses.summary import summarise
    from probes.store import Store
    from reports.page import write

    readings = load(run)
    say("computing the statistics")
    summary = summarise(readings, seed=int(readings.manifest.get("seed", 0)))
    Store(run).write_json("summary.json", summary)
    say("writing the page")
    return summary, write(run, readings, summary, out)
