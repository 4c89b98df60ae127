"""Several runs side by side: the comparison and its page, from stored readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from override_gap.analyses.compare.methods import Methods, side_by_side
from override_gap.analyses.readings import load
from override_gap.analyses.verdict import verdict
from override_gap.reports.page.compare import write_comparison


def compare(*runs: Path | str, condition: str = "as-delivered", out: Path | str | None = None) -> Methods:
    """Compare two or more run folders under one condition, on the items that all of them measured.

    Returns the comparison, which prints itself; `as_json()` gives every number. With `out`, its page is written there.
    Raises ValueError where there are fewer than two runs, or where the runs cannot be compared.
    """
    if len(runs) < 2:
        raise ValueError("a comparison needs two or more run folders")
    folders = [Path(run) for run in runs]
    frames = [load(folder) for folder in folders]
    names = method_names(folders, [str((frame.manifest.get("adapters") or {}).get("name")) for frame in frames])
    verdicts = tuple({"method": name, **verdict(run).as_json()} for name, run in zip(names, frames, strict=True))
    methods = replace(side_by_side(dict(zip(names, frames, strict=True)), condition), verdicts=verdicts)
    resolved = [folder.resolve() for folder in folders]
    repeated = [str(folder) for number, folder in enumerate(folders) if resolved[number] in resolved[:number]]
    if repeated:
        note = f"{', '.join(repeated)} is given twice: a run does not differ from itself"
        methods = replace(methods, notes=(*methods.notes, note))
    if out is not None:
        write_comparison(methods.as_json(), Path(out))
    return methods


def method_names(folders: Sequence[Path], adapters: Sequence[str]) -> list[str]:
    """A distinct name per run: its adapters, else its folder's name, else its path, else path and number."""
    for names in (list(adapters), [folder.resolve().name for folder in folders], [str(folder) for folder in folders]):
        if len(set(names)) == len(names):
            return names
    return [f"{folder} ({number})" for number, folder in enumerate(folders, 1)]
