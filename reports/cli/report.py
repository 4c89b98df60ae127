"""`override-gap report`: statistics and report from stored readings; no model is opened."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from override_gap.reports.cli._args import require_run, run_or_url, writable
from override_gap.reports.cli._say import say, say_json, say_text, teller
from override_gap.reports.cli.main import DONE, parser

FORMATS = ("html", "md", "tex", "json", "pdf", "inspect", "lm-eval")
SAMPLES = ("inspect", "lm-eval")
"""Forms that hold one sample per item, for other projects' viewers."""
EPILOG = """examples:
  override-gap report runs/audit --out audit.html
  override-gap report runs/audit --format tex > tables.tex   # the fragment alone, for \\input
  override-gap report runs/audit --format inspect --condition as-delivered,uniform-1.5 --out logs  # inspect view
  override-gap report runs/audit --model-card --out card.md
"""


def main(argv: Sequence[str]) -> int:
    """Recompute summary.json and report.html of a run, and write the report in another form if one is named."""
    options = parser("report", EPILOG)
    options.add_argument("run", type=run_or_url, metavar="RUN", help="a run folder or its URL")
    options.add_argument(
        "--out", type=Path, metavar="FILE", help="output file (default: RUN/report.FORMAT; tex: printed too)"
    )
    form = options.add_mutually_exclusive_group()
    form.add_argument("--format", choices=FORMATS, default="html", metavar="FORMAT", help=f"{', '.join(FORMATS)}")
    form.add_argument("--model-card", action="store_true", help="a Markdown section for an adapter's model card")
    options.add_argument(
        "--condition",
        metavar="C,..",
        help="for inspect and lm-eval, sample by sample: which conditions (default as-delivered)",
    )
    options.add_argument("--json", action="store_true", help="print summary.json on stdout")
    options.add_argument("--quiet", action="store_true", help="no progress")
    args = options.parse_args(argv)
    if args.condition is not None and args.format not in SAMPLES:
        options.error(f"--condition is for --format {' and '.join(SAMPLES)}")
    if args.format in SAMPLES:
        return _samples(args.run, args.format, args.condition or "as-delivered", args.out, args.json)
    if args.out:
        writable(args.out)
    # the fragment goes where it is wanted and nothing else does, so that it can be piped into a document
    fragment = args.format == "tex" and not args.json
    if isinstance(args.run, Path):
        require_run(args.run)
    tell = teller(args.quiet or fragment)
    browser = None
    if args.format == "pdf":
        from override_gap.reports.export.pdf import browser as find_browser

        browser = find_browser()
    as_page = args.format == "html" and not args.model_card
    from override_gap.probes.store.remote import local_copy, redacted

    with local_copy(args.run) as run:
        from override_gap.reports.build import rebuild

        summary, page = rebuild(run, tell, args.out if as_page else None)
        report = page
        if args.model_card:
            report = _write_text(args.out or run / "model-card.md", "card", summary)
        elif browser is not None:
            from override_gap.reports.export.pdf import write_pdf

            report = write_pdf(page, args.out or run / "report.pdf", browser)
        elif args.format != "html":
            # RUN/summary.json was written just now; with --out this is a copy of it
            stem = "summary" if args.format == "json" else "report"
            report = _write_text(args.out or run / f"{stem}.{args.format}", args.format, summary)
    if report.is_relative_to(run) and isinstance(args.run, str):
        report = f"{redacted(args.run)}/{report.relative_to(run)}"
    if fragment:
        if args.out is None:
            from override_gap.reports.export.latex import latex

            say_text(latex(summary), end="")
        return DONE
    if args.json:
        say_json(summary)
    else:
        from override_gap.reports.cli._digest import coloured, digest

        say_text(digest(summary, coloured(sys.stdout)), styled=coloured(sys.stdout))
        say(f"report: {report}")
    return DONE


def _samples(at: Path | str, form: str, conditions: str, out: Path | None, as_json: bool) -> int:
    """Write the samples of some conditions into a folder, for the viewer of another project."""
    import json

    if isinstance(at, Path):
        require_run(at)
    elif out is None:
        raise ValueError(f"--format {form} of a run at a URL needs --out FOLDER")
    out = writable(out if out is not None else Path(at) / form, folder=True)
    from override_gap.analyses.readings import load
    from override_gap.margins.text import path_component
    from override_gap.margins.whole_files import make_folder, write_text
    from override_gap.probes.store.folder import refuse_symlinks
    from override_gap.probes.store.remote import local_copy

    files: dict[Path, str] = {}
    with local_copy(at) as folder:
        refuse_symlinks(folder)
        run = load(folder)
        for condition in dict.fromkeys(name.strip() for name in conditions.split(",") if name.strip()):
            if form == "inspect":
                from override_gap.reports.export.inspect_log import inspect_log

                name, log = inspect_log(run, condition)
                files[out / name] = f"{json.dumps(log, indent=1)}\n"
            else:
                from override_gap.reports.export.lm_eval_log import lm_eval_logs

                within = out / path_component(condition)
                files |= {within / name: content for name, content in lm_eval_logs(run, condition).items()}
    if not files:
        raise ValueError("--condition needs at least one name, as as-delivered")
    for file, content in files.items():
        make_folder(file.parent)
        write_text(file, content)
    if as_json:
        say_json([str(file) for file in files])
    else:
        say(*(f"samples: {file}" for file in files))
    return DONE


def _write_text(out: Path, form: str, summary: Mapping[str, Any]) -> Path:
    """Write the summary in one of the text forms."""
    from override_gap.margins.whole_files import make_folder, write_text
    from override_gap.probes.store.checksum import with_checksum
    from override_gap.probes.store.folder import Store
    from override_gap.reports.export.latex import latex
    from override_gap.reports.export.markdown import markdown
    from override_gap.reports.export.model_card import model_card

    make_folder(out.parent)
    if form == "json":
        Store(out.parent).write_json(out.name, with_checksum(summary))
    else:
        render = {"md": markdown, "tex": latex, "card": model_card}[form]
        write_text(out, render(summary))
    return out
