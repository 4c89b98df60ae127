"""Shards: one run dealt out to several machines that know nothing of one another, and joined again."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from override_gap.probes.run.engine import Unit
from override_gap.probes.store.checksum import DamagedError
from override_gap.probes.store.folder import TABLES, RunError, Store, refuse_symlinks

NEEDED = ("identity", "units", "adapters", "parity", "started")
"""Of a shard's manifest, what the merged one is made of."""


@dataclass(frozen=True)
class Shard:
    """The number-th of so many parts of a run, counted from 1; each part has a run folder of its own."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/16` as a shard. Raises ValueError."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        number, of = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise ValueError(f"--shard needs NUMBER/OF with NUMBER from 1 to OF, as in 3/16; got {text!r}")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def share(self, units: Sequence[Unit]) -> list[Unit]:
        """This shard's units, dealt out like cards: units are random samples of like size, and so are shards."""
        return list(units[self.number - 1 :: self.of])


def merge(folders: Sequence[Path], out: Path) -> Path:
    """Join all shards of one run into a run folder whose readings are those of the undivided run, byte for byte.

    The folder appears when it is whole. Raises RunError where shards are of different runs, given twice, missing,
    unfinished or damaged, or where `out` is taken or within a run.
    """
    places = [folder.resolve() for folder in folders]
    twice = next((folder for folder, place in zip(folders, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise RunError(f"{twice} is given twice; give each shard once")
    manifests = {folder: Store(folder).manifest() for folder in folders}
    _check(manifests)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is not an empty folder; give --out a new one")
    inside = next((above for above in out.resolve().parents if (above / "manifest.json").exists()), None)
    if inside is not None:
        raise RunError(f"{out} is within the run folder {inside}; give --out a place of its own")
    for folder in folders:
        _sound(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    growing = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".merging", dir=out.parent))
    try:
        growing.chmod(0o755)
        _gather(folders, growing, next(iter(manifests.values()))["units"])
        Store(growing).write_json("manifest.json", _joined(list(manifests.values())))
        if out.exists():
            out.rmdir()
        growing.rename(out)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return out


def _sound(folder: Path) -> None:
    """Raises RunError where a shard holds a link or a table that is damaged."""
    store = Store(folder)
    refuse_symlinks(folder)
    keys = store.keys()
    for key in keys:
        try:
            store.faults(key)
        except DamagedError as fault:
            raise RunError(
                f"{fault}; give `override-gap doctor {folder} --repair`, then that shard's own command again, then merge"
            ) from fault


def _gather(folders: Sequence[Path], growing: Path, units: int) -> None:
    """Copy every shard's tables into one folder. Raises RunError unless each unit is there once."""
    for name in ("readings", "layers"):
        (growing / name).mkdir(parents=True)
    for folder in folders:
        for file in sorted(file for name in TABLES for file in folder.glob(f"{name}/*.parquet")):
            target = growing / file.relative_to(folder)
            if target.exists():
                raise RunError(
                    f"{file}: this unit is in another shard too; measure the shards again with one --shard each"
                )
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(file, target)
    _count(growing, units)


def _check(manifests: dict[Path, dict[str, Any]]) -> None:
    """Raises RunError unless these are the manifests of all shards of one run, each once and finished."""
    first, leader = next(iter(manifests.items()))
    seen: dict[int, Path] = {}
    for folder, manifest in manifests.items():
        shard = manifest.get("shard")
        if shard is None:
            raise RunError(f"{folder} is a whole run, no shard of one; merge takes what `audit --shard` wrote")
        lacks = [name for name in NEEDED if name not in manifest]
        if lacks:
            raise RunError(
                f"{folder}: its manifest lacks {', '.join(lacks)}; measure this shard again into a new folder"
            )
        if manifest["identity"] != leader["identity"]:
            raise RunError(
                f"{folder} is of another audit than {first} (other settings, model, adapters, items or code); "
                "shards of one run differ in nothing but --shard"
            )
        if shard["of"] != leader["shard"]["of"]:
            raise RunError(
                f"{folder} is one of {shard['of']} shards, {first} one of {leader['shard']['of']}; need one number"
            )
        if shard["number"] in seen:
            raise RunError(
                f"{folder} and {seen[shard['number']]} are both shard {shard['number']}; give each shard once"
            )
        if not manifest.get("complete"):
            raise RunError(f"{folder} is not finished; give the command of shard {shard['number']} again, then merge")
        seen[shard["number"]] = folder
    missing = [n for n in range(1, leader["shard"]["of"] + 1) if n not in seen]
    if missing:
        named = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise RunError(f"shard {named} of {leader['shard']['of']} is missing; give the folders of all shards")


def _count(folder: Path, units: int) -> None:
    for name in ("readings", "layers"):
        found = sum(1 for _ in (folder / name).glob("*.parquet"))
        if found != units:
            raise RunError(
                f"the shards hold {name} of {found} units, the run has {units}; audit the shards again to fill gaps"
            )


def _joined(manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The manifest of the whole: the first one's, with the seconds of all, the largest gaps and the outermost times."""
    first = {key: value for key, value in manifests[0].items() if key != "shard"}
    gaps = [m["parity"].get("attribution_max_abs") for m in manifests]
    parity = {
        **first["parity"],
        "logits_max_abs": max(m["parity"]["logits_max_abs"] for m in manifests),
        "attribution_max_abs": max((gap for gap in gaps if gap is not None), default=None),
    }
    timings = [m.get("timing") or {} for m in manifests]
    timing = {name: sum(t.get(name, 0.0) for t in timings) for name in dict.fromkeys(n for t in timings for n in t)}
    adapters = {}
    for manifest in reversed(manifests):
        adapters |= manifest["adapters"]
    return {
        **first,
        "adapters": adapters,
        "parity": parity,
        "timing": timing,
        "started": min(m["started"] for m in manifests),
        "finished": max(m["finished"] for m in manifests),
        "shards": len(manifests),
    }
