"""Doctor: what in a run folder is missing or damaged, and what to do about it. No model is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from override_gap.margins.temporaries import is_abandoned
from override_gap.margins.whole_files import make_folder, move
from override_gap.probes.store.checksum import DamagedError, read_checked
from override_gap.probes.store.files import leftovers
from override_gap.probes.store.folder import DAMAGED, RunError, Store, refuse_symlinks, symlinks
from override_gap.probes.store.lock import owner
from override_gap.probes.store.schema import TABLES

RERUN = "give the audit's own command again"
SERIOUS = ("damaged", "missing", "inconsistent", "link")


@dataclass(frozen=True)
class FileFinding:
    """What is wrong with one file or unit of a run folder, and what to do about it."""

    kind: str
    about: str
    says: str
    advice: str


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
    if not run.is_dir() or not any(os.path.lexists(run / name) for name in ("manifest.json", "readings")):
        raise RunError(
            f"{run}: no manifest.json and no readings, so this is not a run folder; give the --out of an audit"
        )
    links = sorted(symlinks(run))
    if links:
        advice = "remove it and give the command again; nothing else was checked, so that no link is followed"
        linked = (FileFinding("link", str(link.relative_to(run)), "it is a symbolic link", advice) for link in links)
        return Diagnosis(str(run), False, 0, 0, 0, tuple(linked))
    manifest, findings = _read_manifest(run)
    conditions_of: dict[str, set[str]] = {}
    duplicates: dict[str, str] = {}
    sound = rows = errors = transient = 0
    for key in _units(run):
        try:
            transient += Store(run).faults(key)
            table, note = read_checked(run / "readings" / f"{key}.parquet")
        except DamagedError as fault:
            findings.append(_unsound_unit(run, key, fault))
            continue
        if note is None:
            says = "its tables have no checksum (written by an older version)"
            advice = "its numbers cannot be checked; measure again into a new folder if in doubt"
            findings.append(FileFinding("unchecked", key, says, advice))
        sound += 1
        rows += len(table)
        errors += sum(status == "error" for status in table.column("status").to_pylist())
        items, conditions = (table.column(name).to_pylist() for name in ("item", "condition"))
        for item, condition in zip(items, conditions, strict=True):
            earlier = conditions_of.setdefault(item, set())
            if condition in earlier:
                duplicates[key] = f"item {item!r} has two readings under {condition}"
            earlier.add(condition)
    advice = "the tables of two audits cannot be told apart; measure again into a new folder"
    findings += [FileFinding("inconsistent", key, says, advice) for key, says in duplicates.items()]
    findings += _incomplete(manifest, sound, conditions_of)
    if transient:
        says = f"{transient} rows failed for reasons that may be transient (memory, a source that raised, a model that changed)"
        findings.append(FileFinding("retry", "readings", says, f"{RERUN}: their units are measured again"))
    says = "half written by a process that was killed"
    findings += [FileFinding("leftover", str(f.relative_to(run)), says, "removed by --repair") for f in leftovers(run)]
    holder = owner(run)
    if holder is not None:
        advice = "if that process is gone, the next audit takes over by itself"
        findings.append(FileFinding("held", "owner.json", f"held by {holder}", advice))
    complete = bool(manifest and manifest.get("complete"))
    return Diagnosis(str(run), complete, len(_units(run)), rows, errors, tuple(findings))


def repair(run: Path) -> list[str]:
    """Move what is damaged to RUN/damaged and remove leftovers, so that the same audit measures what is missing.

    Returns what was done, one sentence per file. Raises LockError where an audit is at work there, RunError where a symbolic
    link would lead out of the folder.
    """
    refuse_symlinks(run)
    store = Store(run)
    actions = [f"removed {file.relative_to(run)}" for file in leftovers(run) if is_abandoned(file)]
    with store.locked():  # removes the leftovers
        for key in _units(run):
            try:
                store.faults(key)
            except DamagedError:
                actions += [f"moved {file.name} to {file.parent}" for file in store.set_aside(key)]
        try:
            store.manifest()
        except RunError:
            if (run / "manifest.json").exists():
                move(run / "manifest.json", make_folder(run / DAMAGED) / "manifest.json")
                actions.append(f"moved manifest.json to {run / DAMAGED}")
    return actions


def _read_manifest(run: Path) -> tuple[dict[str, Any] | None, list[FileFinding]]:
    """The manifest, or None and the finding why there is none."""
    name = "manifest.json"
    if not (run / name).exists():
        advice = f"{RERUN}: it is written again and sound readings are kept"
        return None, [FileFinding("missing", name, "there is none", advice)]
    try:
        return Store(run).manifest(), []
    except RunError as fault:
        says = str(fault).split("; `override-gap")[0].removeprefix(f"{run / name}: ")
        advice = f"--repair moves it aside; then {RERUN}: sound readings are kept"
        return None, [FileFinding("damaged", name, says, advice)]


def _units(run: Path) -> list[str]:
    """Every key that a table of the folder has."""
    return sorted({file.stem for name in TABLES for file in (run / name).glob("*.parquet")})


def _unsound_unit(run: Path, key: str, fault: DamagedError) -> FileFinding:
    if not (run / "readings" / f"{key}.parquet").is_file():
        says = "begun and not finished: it has no readings"
        return FileFinding("unfinished", key, says, f"{RERUN}: it is measured again")
    says = str(fault).removeprefix(f"{run}/")
    return FileFinding("damaged", key, says, f"--repair moves the unit aside; then {RERUN}")


def _incomplete(
    manifest: dict[str, Any] | None, sound: int, conditions_of: dict[str, set[str]]
) -> Sequence[FileFinding]:
    """Units and conditions that the manifest promises and no sound table holds."""
    if manifest is None:
        return ()
    findings = []
    units, conditions = manifest.get("units") or 0, set(manifest.get("conditions") or ())
    shard = manifest.get("shard")
    promised = len(range(shard["number"] - 1, units, shard["of"])) if shard else units
    stopped = (manifest.get("until") or {}).get("stopped")
    promised = promised if stopped is None else stopped["units"]
    if sound < promised:
        kind = "missing" if manifest.get("complete") else "unfinished"
        says = f"{promised - sound} of {promised} units have no sound readings"
        findings.append(FileFinding(kind, "readings", says, f"{RERUN}: only these are measured"))
    lacking = sorted(item for item, measured in conditions_of.items() if conditions - measured)
    if lacking:
        says = f"{len(lacking)} items lack a condition, for example {lacking[0]!r}"
        findings.append(FileFinding("inconsistent", "readings", says, "measure again into a new folder"))
    return findings
