"""Promised runs: a run's manifest, and what it promises of its units, held against their notes; no row is read.

For a look at many runs at once: a run of a hundred thousand rows takes milliseconds. What `read_sealed` finds beyond this is
a row that is not what was written, and a unit's further tables.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from override_gap.probes.store.checksum import DamagedError, read_note, unit_seal
from override_gap.probes.store.folder import PIPE, RunError, pipes, symlinks
from override_gap.probes.store.sealed import read_manifest


@dataclass(frozen=True)
class PromisedRun:
    """A run's manifest; `content` as `read_sealed` gives it, None where the run is not finished or has no checksums."""

    manifest: dict[str, Any]
    content: str | None


def read_promised(run: Path) -> PromisedRun:
    """The manifest of a run whose units' notes are those that it names. Raises RunError with the reason, in doctor's words."""
    if not run.is_dir() or not any(os.path.lexists(run / name) for name in ("manifest.json", "readings")):
        raise RunError("no manifest.json and no readings, so this is not a run folder")
    for link in symlinks(run):
        raise RunError(f"{link.relative_to(run)}: it is a symbolic link, which is not followed; remove it")
    for pipe in pipes(run):
        raise RunError(f"{pipe.relative_to(run)}: it is {PIPE}; remove it")
    manifest, findings = read_manifest(run)
    if manifest is None:
        raise RunError(str(findings[0]))
    units = (manifest.get("seals") or {}).get("units")
    if units is None or "checksum" not in manifest:
        return PromisedRun(manifest, None)
    for key, seal in units.items():
        file = run / "readings" / f"{key}.parquet"
        if file.parent != run / "readings":
            raise RunError(f"manifest.json: it names a unit outside of the run: {key!r}")
        if not file.is_file():
            raise RunError(f"missing: readings/{file.name}: the manifest names it, and it is not there; {_doctor(run)}")
        try:
            sound = unit_seal(read_note(file)) == seal
        except DamagedError as fault:
            raise RunError(f"damaged: {str(fault).removeprefix(f'{run}/')}; {_doctor(run)}") from fault
        if not sound:
            raise RunError(
                f"damaged: readings/{file.name}: it is not the table that the manifest names; {_doctor(run)}"
            )
    content = hashlib.sha256(json.dumps([manifest["checksum"], units], sort_keys=True).encode()).hexdigest()
    return PromisedRun(manifest, content)


def _doctor(run: Path) -> str:
    return f"`override-gap doctor {run}` says what can be kept"
