"""Doctor: what of a run folder is whole, what is missing or damaged, and what to do about it. No model is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from override_gap.probes.store.checksum import DamagedError, read_checked
from override_gap.probes.store.files import leftovers
from override_gap.probes.store.folder import DAMAGED, TABLES, RunError, Store, refuse_symlinks, symlinks
from override_gap.probes.store.lock import owner

AGAIN = "give the audit's own command again"
WEIGHTY = ("damaged", "missing", "inconsistent", "link")


@dataclass(frozen=True)
class FileFinding:
    """One thing about a folder: `kind`, the file or unit it is about, what is wrong and what to do."""

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
        """Whether every reading that is there can be trusted and none is lacking."""
        return not any(finding.kind in WEIGHTY for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The diagnosis as JSON."""
        return {**asdict(self), "findings": [asdict(f) for f in self.findings], "sound": self.sound}


def diagnose(run: Path) -> Diagnosis:
    """Read every table of a run folder and compare it with its checksum. Raises RunError for what is no run folder."""
    store, findings = Store(run), list[FileFinding]()
    if not run.is_dir() or not any(os.path.lexists(run / name) for name in ("manifest.json", "readings")):
        raise RunError(
            f"{run}: no manifest.json and no readings, so this is not a run folder; give the --out of an audit"
        )
    advice = "remove it and ask again: a run folder is written to and holds none, and nothing else was looked at"
    astray = tuple(
        FileFinding("link", str(link.relative_to(run)), "it is a symbolic link", advice)
        for link in sorted(symlinks(run))
    )
    if astray:
        return Diagnosis(str(run), False, 0, 0, 0, astray)
    manifest: dict[str, Any] | None = None
    if not (run / "manifest.json").exists():
        advice = f"{AGAIN}: it is written anew and sound readings are kept"
        findings.append(FileFinding("missing", "manifest.json", "there is none", advice))
    else:
        try:
            manifest = store.manifest()
        except RunError as fault:
            says = str(fault).split("; `override-gap")[0].removeprefix(f"{run / 'manifest.json'}: ")
            advice = f"--repair moves it aside; then {AGAIN}: sound readings are kept"
            findings.append(FileFinding("damaged", "manifest.json", says, advice))
    seen: dict[str, set[str]] = {}
    twice: dict[str, str] = {}
    sound = rows = errors = faults = 0
    for key in _units(run):
        try:
            faults += store.faults(key)
            table, said = read_checked(run / "readings" / f"{key}.parquet")
        except DamagedError as fault:
            findings.append(_broken(run, key, fault))
            continue
        if said is None:
            advice = "its numbers cannot be checked; measure again into a new folder if in doubt"
            findings.append(
                FileFinding("unchecked", key, "its tables carry no checksum (made by an older version)", advice)
            )
        sound += 1
        rows += len(table)
        errors += sum(status != "ok" for status in table.column("status").to_pylist())
        for item, condition in zip(
            table.column("item").to_pylist(), table.column("condition").to_pylist(), strict=True
        ):
            conditions = seen.setdefault(item, set())
            if condition in conditions:
                twice[key] = f"item {item!r} is read twice under {condition}"
            conditions.add(condition)
    advice = "a folder of two audits cannot be taken apart; measure again into a new folder"
    findings += [FileFinding("inconsistent", key, says, advice) for key, says in twice.items()]
    findings += _lacking(manifest, sound, seen)
    if faults:
        says = f"{faults} rows failed by what another try may not meet (memory, a source that raised, a model that changed)"
        findings.append(FileFinding("retry", "readings", says, f"{AGAIN}: their units are measured again"))
    findings += [
        FileFinding(
            "leftover", str(file.relative_to(run)), "half written by a process that was killed", "removed by --repair"
        )
        for file in leftovers(run)
    ]
    holder = owner(run)
    if holder is not None:
        says = f"held by {holder}"
        findings.append(FileFinding("held", "owner.json", says, "if it is gone, the next audit takes over by itself"))
    complete = bool(manifest and manifest.get("complete"))
    return Diagnosis(str(run), complete, len(_units(run)), rows, errors, tuple(findings))


def repair(run: Path) -> list[str]:
    """Move what is damaged to RUN/damaged and remove leftovers, so that the same audit measures what is lacking.

    Returns what was done, a sentence each. Raises LockError where an audit is at work there, RunError where a symbolic link
    would lead what is moved or removed out of the folder.
    """
    refuse_symlinks(run)
    store, done = Store(run), []
    litter = leftovers(run)
    with store.locked():  # takes the leftovers away
        done += [f"removed {file.relative_to(run)}" for file in litter]
        for key in _units(run):
            try:
                store.faults(key)
            except DamagedError:
                done += [f"moved {file.name} to {file.parent}" for file in store.set_aside(key)]
        try:
            store.manifest()
        except RunError:
            if (run / "manifest.json").exists():
                (run / DAMAGED).mkdir(exist_ok=True)
                (run / "manifest.json").replace(run / DAMAGED / "manifest.json")
                done.append(f"moved manifest.json to {run / DAMAGED}")
    return done


def _units(run: Path) -> list[str]:
    """Every key that a table of the folder has."""
    return sorted({file.stem for name in TABLES for file in (run / name).glob("*.parquet")})


def _broken(run: Path, key: str, fault: DamagedError) -> FileFinding:
    begun = not (run / "readings" / f"{key}.parquet").is_file()
    says = "begun and not finished: it has no readings" if begun else str(fault).removeprefix(f"{run}/")
    kind = "unfinished" if begun else "damaged"
    advice = f"{AGAIN}: it is measured anew" if begun else f"--repair moves the unit aside; then {AGAIN}"
    return FileFinding(kind, key, says, advice)


def _lacking(manifest: dict[str, Any] | None, sound: int, seen: dict[str, set[str]]) -> Sequence[FileFinding]:
    """Units and conditions that the manifest promises and no sound table holds."""
    if manifest is None:
        return ()
    found = []
    count, conditions = manifest.get("units") or 0, set(manifest.get("conditions") or ())
    shard = manifest.get("shard")
    count = len(range(shard["number"] - 1, count, shard["of"])) if shard else count
    if sound < count:
        kind = "missing" if manifest.get("complete") else "unfinished"
        says = f"{count - sound} of {count} units have no sound readings"
        found.append(FileFinding(kind, "readings", says, f"{AGAIN}: only these are measured"))
    short = sorted(item for item, own in seen.items() if conditions - own)
    if short:
        says = f"{len(short)} items lack a condition, {short[0]!r} for one"
        found.append(FileFinding("inconsistent", "readings", says, "measure again into a new folder"))
    return found
