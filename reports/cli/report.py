"""`override-gap report`: statistics and page from stored readings; no model is opened."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from override_gap.probes.store.remote import redacted
from override_gap.reports.build import rebuild
from override_gap.reports.cli._args import place, writable
from override_gap.reports.cli.main import DONE, parser

FORMATS = ("html", "md", "tex", "json", "pdf")
EPILOG = """examples:
  override-gap report runs/audit --out audit.html
  override-gap report runs/audit --format tex --out tables.tex
  override-gap report runs/audit --model-card --out card.md
"""


def main(argv: Sequence[str]) -> int:
    """Rebuild summary.json and report.html of a run, and give the report in another form where one is asked for."""
    made = parser("report", EPILOG)
    made.add_argument("run", type=place, metavar="RUN", help="a run folder or its URL")
    made.add_argument("--out", type=Path, metavar="FILE", help="where it goes (default: RUN/report.FORMAT)")
    form = made.add_mutually_exclusive_group()
    form.add_argument("--format", choices=FORMATS, default="html", metavar="FORMAT", help=f"{', '.join(FORMATS)}")
    form.add_argument("--model-card", action="store_true", help="a Markdown fragment for an adapter repository")
    made.add_argument("--json", action="store_true", help="print summary.json on stdout")
    made.add_argument("--quiet", action="store_true", help="no progress")
    args = made.parse_args(argv)
    if args.out:
        writable(args.out)
    say = (lambda text: None) if args.quiet else (lambda text: print(text, file=sys.stderr))
    program = None
    if args.format == "pdf":
        from override_gap.reports.export.pdf import browser

        program = browser()
    as_page = args.format == "html" and not args.model_card
    from override_gap.probes.store.remote import local_copy

    with local_copy(args.run) as run:
        summary, page = rebuild(run, say, args.out if as_page else None)
        written = page
        if args.model_card:
            written = _text(args.out or run / "model-card.md", "card", summary)
        elif args.format == "pdf" and program:
            from override_gap.reports.export.pdf import write_pdf

            written = write_pdf(page, args.out or run / "report.pdf", program)
        elif args.format != "html":
            # summary.json was written just now; elsewhere it is a copy.
            written = _text(args.out or run / f"{_stem(args.format)}.{args.format}", args.format, summary)
    if written.is_relative_to(run) and isinstance(args.run, str):
        written = f"{redacted(args.run)}/{written.relative_to(run)}"
    if args.json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        from override_gap.reports.cli._digest import coloured, digest

        print(digest(summary, coloured(sys.stdout)))
        print(f"report: {written}")
    return DONE


def _stem(form: str) -> str:
    return "summary" if form == "json" else "report"


def _text(out: Path, form: str, summary: Mapping[str, Any]) -> Path:
    """Write the summary in one of the forms that are text."""
    from override_gap.probes.store.folder import Store
    from override_gap.reports.export.latex import latex
    from override_gap.reports.export.markdown import markdown, model_card

    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "json":
        Store(out.parent).write_json(out.name, summary)
    else:
        render = {"md": markdown, "tex": latex, "card": model_card}[form]
        out.write_text(render(summary), encoding="utf-8", newline="\n")
    return out
