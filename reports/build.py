"""Statistics and page of a run from its stored readings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def rebuild(run: Path, say: Callable[[str], None], out: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Write RUN/summary.json, RUN/figures and the page; returns the summary and where the page is."""
    from override_gap.analyses.readings import load
    from override_gap.analyses.summary import summarise
    from override_gap.probes.store.folder import Store, refuse_symlinks
    from override_gap.probes.timing import timed
    from override_gap.reports.page import write

    refuse_symlinks(run)

    with timed("files"):
        readings = load(run)
    lacking = [name for name in ("subject", "adapters", "items") if not readings.manifest.get(name)]
    if lacking:
        raise ValueError(f"{run / 'manifest.json'}: it lacks {', '.join(lacking)}; the run has to be made again")
    say("computing the statistics")
    with timed("statistics"):
        summary = summarise(readings, seed=int(readings.manifest.get("seed", 0)))
    with timed("files"):
        Store(run).write_json("summary.json", summary)
    say("writing the page")
    with timed("page"):
        return summary, write(run, readings, summary, out)
