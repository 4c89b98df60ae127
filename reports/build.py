"""The report of one run: statistics, figures and page from its stored readings; no model is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import escape


@dataclass(frozen=True)
class Report:
    """What was written for a run. Prints as the verdict and where the page is."""

    page: Path | str
    """Path of the page, or its URL where the run is at one."""
    summary: dict[str, Any]
    """The content of summary.json."""

    def __str__(self) -> str:
        verdict = self.summary.get("verdict") or {}
        lines = [f"{verdict['label']}: {verdict['sentence']}"] if verdict.get("sentence") else []
        return "\n".join([*lines, f"report: {self.page}"])

    def _repr_html_(self) -> str:
        from override_gap.reports.notebook import first_screen_html

        return f"{first_screen_html(self.summary)}<p>report: {escape(str(self.page))}</p>"


def write(run: Path | str, out: Path | str | None = None, *, say: Callable[[str], None] | None = None) -> Report:
    """Write the report of a run folder, or of a run at a URL; returns its page and its summary.

    Writes RUN/summary.json (every number), RUN/figures/ (each figure as SVG, PNG and PDF) and the page, one file that
    needs no network, at RUN/report.html or at `out`. Prints nothing: progress goes to `say`, one line per stage.
    Raises RunError where there is no run, ValueError where its manifest does not say what was measured.
    """
    from override_gap.probes.store.remote import local_copy, redacted

    with local_copy(run if "://" in str(run) else Path(run)) as folder:
        summary, page = rebuild(folder, say, Path(out) if out is not None else None)
    if "://" in str(run) and out is None:
        return Report(f"{redacted(str(run))}/{page.name}", summary)
    return Report(page, summary)


def rebuild(
    run: Path, say: Callable[[str], None] | None = None, out: Path | None = None
) -> tuple[dict[str, Any], Path]:
    """`write` for a folder of this machine; returns the summary and the page's path."""
    from override_gap.analyses.readings import load
    from override_gap.analyses.summary import summarise
    from override_gap.margins.whole_files import leftovers, leftovers_of, remove_abandoned
    from override_gap.probes.store.checksum import with_checksum
    from override_gap.probes.store.folder import Store, refuse_symlinks
    from override_gap.probes.timing import timed
    from override_gap.reports.page import write_page

    say = say or (lambda text: None)
    refuse_symlinks(run)
    with timed("files"):
        readings = load(run)
    for written in (run / "summary.json", run / "report.html"):
        remove_abandoned(leftovers_of(written))
    remove_abandoned(leftovers(run / "figures"))
    lacking = [name for name in ("subject", "adapters", "items") if not readings.manifest.get(name)]
    if lacking:
        raise ValueError(f"{run / 'manifest.json'}: it lacks {', '.join(lacking)}; measure the run again")
    say("computing the statistics")
    with timed("statistics"):
        summary = summarise(readings, int(readings.manifest.get("seed", 0)), say) | {"content": readings.content}
    with timed("files"):
        Store(run).write_json("summary.json", with_checksum(summary))
    say("writing the page")
    with timed("page"):
        return summary, write_page(run, readings, summary, out)
