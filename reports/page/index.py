"""The page of a folder of runs: one table, which scripts of the page sort and filter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from override_gap.margins.whole_files import make_folder, write_text
from override_gap.reports.index import Index, RunRow, counts, in_words
from override_gap.reports.page.assets import TEMPLATES, policy, style
from override_gap.reports.page.document import template_environment


def write_index(found: Index, out: Path) -> Path:
    """Write the page; links to reports are relative to where it lies. The same runs give the same bytes."""
    sheet = style("colours", "page", "first-screen", "index")
    script = Markup((TEMPLATES / "index.js").read_text(encoding="utf-8"))
    total, faulty = counts(found.rows)
    html = (
        template_environment()
        .get_template("index.html")
        .render(
            folder=found.folder.resolve().name or str(found.folder),
            rows=found.rows,
            total=total,
            faulty=faulty,
            link=lambda row: link(found.folder, row, out),
            says=in_words,
            first=first_sentence,
            style=sheet,
            script=script,
            policy=Markup(policy((script,), sheet)),
        )
    )
    make_folder(Path(out).parent)
    return write_text(Path(out), html)


def link(folder: Path, row: RunRow, out: Path) -> str | None:
    """The relative address of a run's report from the page; None where there is no report."""
    if row.report is None:
        return None
    way = os.path.relpath(folder.resolve() / row.report, Path(out).absolute().parent.resolve())
    # "./" before it: a folder may be called javascript:x
    return "./" + quote(Path(way).as_posix(), safe="/", errors="surrogatepass")


def first_sentence(row: RunRow) -> Any:
    """What the row says beside its label: the verdict's first sentence, or why there is none."""
    return row.fault or row.sentence or ""
