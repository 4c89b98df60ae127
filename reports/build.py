"""Statistics and page of a run from its stored readings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def rebuild(run: Path, say: Callable[[str], None], out: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Write RUN/summary.json, RUN/figures and the page; returns the summary and where the page is."""
    from override_gap.analyses.readings import load
    from override_gap.analyses.summary import summarise
    from override_gap.probes.store.folder import Store, unlinked
    from override_gap.probes.timing import spent_on
    from override_gap.reports.page import write

    unlinked(run)

    with spent_on("files"):
        readings = load(run)
    lacking = [name for name in ("subject", "adapters", "items") if not readings.manifest.get(name)]
    if lacking:
        raise ValueError(f"{run / 'manifest.json'}: it lacks {', '.join(lacking)}; the run has to be made again")
    say("computing the statistics")
    with spent_on("statistics"):
        summary = summarise(readings, seed=int(readings.manifest.get("seed", 0)))
    with spent_on("files"):
        Store(run).write_json("summary.json", summary)
    say("writing the page")
    with spent_on("page"):
        return summary, write(run, readings, summary, out)
