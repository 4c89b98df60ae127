"""What killed commands left half written at a place that is no run folder, or beside one: found and removed for `doctor`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from override_gap.margins.temporaries import is_abandoned
from override_gap.margins.whole_files import leftovers, leftovers_of, remove_abandoned
from override_gap.probes.store.doctor import Diagnosis, FileFinding, diagnose, repair


def half_written(place: Path) -> list[Path]:
    """Temporaries of a file or folder of this name, beside it; those directly in it too, if it is a folder without a run."""
    found = leftovers_of(place)
    return found if _holds_run(place) else found + leftovers(place)


def diagnose_place(place: Path, *, repaired: bool = False) -> Diagnosis:
    """`diagnose`, and what killed commands left at this place: `merge --out PLACE` leaves no run folder to look into.

    Raises RunError where there is neither a run nor anything half written, nor (`repaired`) was any until now.
    """
    left = half_written(place)
    if (left or repaired) and not _holds_run(place):
        absent = FileFinding("missing", str(place), "no run is here", "give the command that was to write it again")
        return Diagnosis(str(place), False, 0, 0, 0, (*map(_finding, left), absent))
    diagnosis = diagnose(place)
    return replace(diagnosis, findings=(*diagnosis.findings, *map(_finding, left)))


def repair_place(place: Path) -> list[str]:
    """`repair`, and what killed commands left at this place removed; returns what was done, one sentence per file."""
    removed = [f"removed {path}" for path in remove_abandoned(half_written(place))]
    return removed + repair(place) if _holds_run(place) else removed


def _holds_run(place: Path) -> bool:
    return (place / "manifest.json").exists() or (place / "readings").exists()


def _finding(path: Path) -> FileFinding:
    if is_abandoned(path):
        says, advice = "half written by a process that was killed", "removed by --repair, or by the next such command"
    else:
        says, advice = "being written by a process that runs on this machine", "wait for it"
    return FileFinding("leftover", str(path), says, advice)
