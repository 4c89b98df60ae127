"""Doctor: what in a run folder is missing or damaged, and what to do about it. No model is opened."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from override_gap.margins.temporaries import is_abandoned
from override_gap.margins.whole_files import make_folder, move
from override_gap.probes.store.checksum import DamagedError
from override_gap.probes.store.files import leftovers
from override_gap.probes.store.finding import RERUN, SERIOUS, FileFinding
from override_gap.probes.store.folder import DAMAGED, Store, refuse_symlinks
from override_gap.probes.store.lock import owner
from override_gap.probes.store.sealed import examine, read_manifest, units
from override_gap.probes.store.sealed_json import SEALED_FILES, sealed_file_error
from override_gap.probes.store.unit_tables import Promises, read_unit
from override_gap.probes.store.unreadable import ReadError


@dataclass(frozen=True)
class Diagnosis:
    """A run folder's units, rows and findings."""

    run: str
    complete: bool
    units: int
    rows: int
    errors: int
    findings: tuple[FileFinding, ...]

    @property
    def sound(self) -> bool:
        """Whether every reading that is there can be trusted and a finished run lacks none."""
        return not any(finding.kind in SERIOUS for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The diagnosis as JSON."""
        return {**asdict(self), "findings": [asdict(f) for f in self.findings], "sound": self.sound}


def diagnose(run: Path) -> Diagnosis:
    """Read every table of a run folder and compare it with its checksum. Raises RunError for a folder without a run."""
    sealed = examine(run, keep=False)
    findings = list(sealed.findings)
    if any(finding.kind == "link" for finding in findings):
        return Diagnosis(str(run), False, 0, 0, 0, tuple(findings))
    if sealed.faults:
        why = "memory, a source that raised, a model that changed"
        says = f"{sealed.faults} rows failed for reasons that may be transient ({why})"
        findings.append(FileFinding("retry", "readings", says, f"{RERUN}: their units are measured again"))
    says = "half written by a process that was killed"
    unread = any(finding.kind == "unreadable" for finding in findings)
    try:
        left = leftovers(run)
    except OSError:
        if not unread:
            raise
        left = []  # of a folder that cannot be listed, which was said
    findings += [FileFinding("leftover", str(f.relative_to(run)), says, "removed by --repair") for f in left]
    holder = owner(run)
    if holder is not None:
        advice = "if that process is gone, the next audit takes over by itself"
        findings.append(FileFinding("held", "owner.json", f"held by {holder}", advice))
    complete = bool(sealed.manifest.get("complete"))
    return Diagnosis(str(run), complete, sealed.units, sealed.rows, sealed.errors, tuple(findings))


def repair(run: Path) -> list[str]:
    """Move what is damaged to RUN/damaged and remove leftovers, so that the same audit measures what is missing.

    Returns what was done, one sentence per file. Raises LockError where an audit is at work there, RunError where a symbolic
    link would lead out of the folder.
    """
    refuse_symlinks(run)
    store = Store(run)
    actions = [f"removed {file.relative_to(run)}" for file in leftovers(run) if is_abandoned(file)]
    with store.locked():  # removes the leftovers
        manifest, findings = read_manifest(run)
        promises = Promises.of(manifest)
        for key in units(run):
            try:
                read_unit(run, key, promises)
            except ReadError:  # it may be sound
                continue
            except DamagedError:
                actions += [f"moved {file.name} to {file.parent}" for file in store.set_aside(key)]
        damaged = [name for name in SEALED_FILES[1:] if _is_damaged(run / name, promises)]
        damaged += [finding.about for finding in findings if finding.kind != "unreadable"]
        for name in damaged:
            if (run / name).exists():
                move(run / name, make_folder(run / DAMAGED) / name)
                actions.append(f"moved {name} to {run / DAMAGED}")
    return actions


def _is_damaged(file: Path, promises: Promises) -> bool:
    try:
        return sealed_file_error(file, promises.file(file.name), stray=promises.is_stray(file.name)) is not None
    except ReadError:
        return False
