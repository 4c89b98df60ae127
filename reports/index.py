"""A folder of runs at a glance: one row per run, with its verdict, from its manifest and summary alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from override_gap.margins.text import one_line
from override_gap.probes.store.checksum import checksum_matches
from override_gap.probes.store.folder import RunError, Store
from override_gap.probes.store.promised import read_promised
from override_gap.probes.store.sealed import read_sealed
from override_gap.reports.page.headline import row_path, value_at
from override_gap.reports.page.tuning_tables import LABELS

SCHEMA = 1
DEEPEST, MOST = 6, 5000
"""Folders within folders that are walked, and runs that are listed."""
LONGEST = 400
"""Characters of a text in a row."""


@dataclass(frozen=True)
class RunRow:
    """One run: where it lies, what was measured, what came out; `fault`: why its numbers cannot be shown, else None."""

    run: str
    report: str | None = None
    model: str | None = None
    method: str | None = None
    items: str | None = None
    conflicts: int | None = None
    label: str | None = None
    sentence: str | None = None
    overridden: Mapping[str, Any] | None = None
    kept: Mapping[str, Any] | None = None
    recommendation: str | None = None
    policy: str | None = None
    finished: str | None = None
    complete: bool = False
    fault: str | None = None

    def as_json(self) -> dict[str, Any]:
        """A row of the index as plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Index:
    """Every run of a folder."""

    folder: Path
    rows: tuple[RunRow, ...]

    def as_json(self) -> dict[str, Any]:
        """The index as plain JSON."""
        return {"schema": SCHEMA, "folder": str(self.folder), "runs": [row.as_json() for row in self.rows]}


def index(folder: Path | str, check: bool = False) -> Index:
    """Every run in a folder and the folders in it, by name; links are not followed.

    `check`: read every table of every run and compare it with its checksums, as `override-gap doctor` does. Without, a run's
    manifest, the notes of its tables and its summary are. Raises ValueError where the folder is missing or holds no run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give the folder that holds the runs")
    if is_run(folder):
        raise ValueError(f"{folder} is itself a run; give the folder that holds it, or `override-gap report {folder}`")
    found = []
    for place, fault in walk(folder):
        name = place.relative_to(folder).as_posix()
        found.append(RunRow(name, fault=fault) if fault else row(place, name, check))
        if len(found) > MOST:
            raise ValueError(f"{folder} holds more than {MOST:,} runs; give a folder of fewer")
    if not found:
        raise ValueError(f"{folder}: no run in it (a folder with a manifest.json); give the folder that holds the runs")
    return Index(folder, tuple(sorted(found, key=lambda own: own.run)))


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's: it has a manifest or readings of its own."""
    return os.path.lexists(folder / "manifest.json") or (folder / "readings").is_dir()


def walk(folder: Path, depth: int = 0) -> Iterator[tuple[Path, str | None]]:
    """Every run in a folder, and every link or folder that was not entered, with the reason; runs are not walked further."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as fault:
        yield folder, f"cannot be read: {fault.strerror}"
        return
    for place in (folder / name for name in names):
        if place.is_symlink():
            if place.is_dir():
                yield place, "a symbolic link, which is not followed; give the folder that it leads to"
        elif place.is_dir():
            if is_run(place):
                yield place, None
            elif depth < DEEPEST:
                yield from walk(place, depth + 1)


def row(run: Path, name: str, check: bool = False) -> RunRow:
    """One run's row; what is damaged or not what this program writes is a row with the reason."""
    try:
        if check:
            sealed = read_sealed(run, keep=False)
            manifest, content = sealed.manifest, sealed.content
        else:
            promised = read_promised(run)
            manifest, content = promised.manifest, promised.content
        return filled(run, name, manifest, content)
    except (RunError, OSError, ValueError) as fault:
        return RunRow(name, report_of(run, name), fault=reason(fault, run))
    except Exception as fault:  # a forged file may hold anything under any key
        return RunRow(name, fault=f"its files are not what an audit writes ({type(fault).__name__})")


def filled(run: Path, name: str, manifest: Mapping[str, Any], content: str | None) -> RunRow:
    """The row of a sound run, with the numbers of its summary where that is of these readings."""
    complete = manifest.get("complete") is True
    about = RunRow(
        name,
        report_of(run, name),
        text(value_at(manifest, "subject.name")),
        text(value_at(manifest, "adapters.name")),
        text(value_at(manifest, "items.name")),
        finished=text(manifest.get("finished")) if complete else None,
        complete=complete,
    )
    if manifest.get("shard") is not None:
        return replace(about, fault="a shard of a run; merge all shards with `override-gap merge`")
    summary = Store(run).read_json("summary.json")
    if summary is None or not checksum_matches(summary) or not content or summary.get("content") != content:
        why = "no summary of these readings" if complete else "not finished"
        return replace(about, fault=f"{why}; `override-gap report {run}` makes one" if complete else f"{why}; {AGAIN}")
    return replace(about, **numbers(summary))


AGAIN = "the audit's own command continues it"


def numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a summary says, of the method as delivered."""
    shares = {}
    for split in ("conflict", "retention"):
        place = row_path(
            summary, "outcomes", split=split, condition="as-delivered", measure="top1", tier=None, population="all"
        )
        shares[split] = share(value_at(summary, place)) if place else None
    sentences = value_at(summary, "verdict.sentences") or [value_at(summary, "verdict.sentence")]
    conflicts = shares["conflict"]
    return {
        "conflicts": conflicts["n"] if conflicts else None,
        "label": text(value_at(summary, "verdict.label")),
        "sentence": text(sentences[0]),
        "overridden": conflicts,
        "kept": shares["retention"],
        "recommendation": text(value_at(summary, "tuning.recommendation")),
        "policy": text(value_at(summary, "tuning.policy")),
    }


def share(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Value, limits, n and points of a share; None where it is not known. Raises ValueError for what is no share."""
    values = {key: found.get(key) for key in ("value", "low", "high")}
    if values["value"] is None:
        return None
    for value in values.values():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
            raise ValueError(f"summary.json: a share is a number from 0 to 1, got {one_line(repr(value))[:40]}")
    counts = {key: found.get(key) for key in ("n", "points")}
    if not all(count is None or (isinstance(count, int) and not isinstance(count, bool)) for count in counts.values()):
        raise ValueError("summary.json: a count is a whole number")
    return {**values, **counts}


def text(value: Any) -> str | None:
    """A text of a run's files, cut where it is long; None for what is no text."""
    if not isinstance(value, str):
        return None
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}\u2026"


def report_of(run: Path, name: str) -> str | None:
    """Where a run's report lies, from the folder of the index; None where it has none, or only a link."""
    report = run / "report.html"
    return f"{name}/report.html" if report.is_file() and not report.is_symlink() else None


def reason(fault: Exception, run: Path) -> str:
    """An error as one short line without the path that the row gives already."""
    said = one_line(" ".join(str(fault).replace(f"{run}/", "").removeprefix(f"{run}: ").split()))
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}\u2026"


def in_words(found: RunRow) -> str:
    """What to do with a method, from its tuning: "use uniform-1.5"; empty where nothing was chosen."""
    if found.recommendation == "scale" and found.policy:
        return f"use {found.policy}"
    return LABELS.get(found.recommendation or "", found.recommendation or "")


def counts(rows: Sequence[RunRow]) -> tuple[int, int]:
    """How many runs there are, and of how many no numbers can be shown."""
    return len(rows), sum(found.fault is not None for found in rows)
