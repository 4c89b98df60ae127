"""Shards: one run divided among machines that do not communicate, and merged afterwards."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from override_gap.margins.whole_files import leftovers_of, make_folder, remove_abandoned, whole_folder
from override_gap.probes.run.base_answers import FILE as ITEMS_FILE
from override_gap.probes.run.checks import merged_record
from override_gap.probes.run.engine import Unit
from override_gap.probes.store.folder import RunError, Store
from override_gap.probes.store.schema import TABLES
from override_gap.probes.store.sealed import read_sealed

NEEDED = ("identity", "units", "adapters", "parity", "started")
"""Keys of a shard's manifest that the merged manifest is made from."""


@dataclass(frozen=True)
class Shard:
    """Part `number` of `of` parts of a run, counted from 1; each part has a run folder of its own."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/16` as a shard. Raises ValueError."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        number, of = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= of:
            raise ValueError(f"--shard needs NUMBER/OF with NUMBER from 1 to OF, as in 3/16; got {text!r}")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def share(self, units: Sequence[Unit]) -> list[Unit]:
        """This shard's units, every `of`-th: units are random samples of like size, and so are shards."""
        return list(units[self.number - 1 :: self.of])


def merge(folders: Sequence[Path], out: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """Merge all shards of one run into a run folder whose readings are those of the undivided run, byte for byte.

    The folder appears once it is complete and on disk. `say` is told what a merge that was killed had left.
    Raises RunError where shards are of different runs, given twice, missing,
    unfinished or damaged, or where `out` is not empty or within a run, WriteError where the disk does not take it.
    """
    paths = [folder.resolve() for folder in folders]
    repeated = next((folder for folder, path in zip(folders, paths, strict=True) if paths.count(path) > 1), None)
    if repeated is not None:
        raise RunError(f"{repeated} is given twice; give each shard once")
    manifests = {folder: Store(folder).manifest() for folder in folders}
    _require_all_shards(manifests)
    if out.resolve() == Path.cwd():  # which the new folder would replace, and whoever is in it would be nowhere
        raise RunError(f"{out} is the folder that you are in; give --out the name of a new folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is not an empty folder; give --out a new one")
    outer = next((parent for parent in out.resolve().parents if (parent / "manifest.json").exists()), None)
    if outer is not None:
        raise RunError(f"{out} is within the run folder {outer}; give --out a folder outside it")
    for folder in folders:
        read_sealed(folder, keep=False)
    make_folder(out.parent)
    for path in remove_abandoned(leftovers_of(out)):
        say(f"removed {path}, half written by a process that was killed")
    with whole_folder(out) as merging:
        _copy_tables(folders, merging, next(iter(manifests.values()))["units"])
        asked = Store(folders[0]).read_json(ITEMS_FILE)
        if asked is not None:
            Store(merging).write_json(ITEMS_FILE, asked)
        merged = _merged_manifest(list(manifests.values()))
        if merged["seals"] is None and all("checksum" in manifest for manifest in manifests.values()):
            # shards of a version that did not list their units: all of them were read just now
            merged["seals"] = Store(merging).seals(Store(merging).keys())
        Store(merging).write_json("manifest.json", merged)
    return out


def _copy_tables(folders: Sequence[Path], merging: Path, units: int) -> None:
    """Copy every shard's tables into one folder. Raises RunError unless each unit is there exactly once."""
    for name in ("readings", "layers"):
        (merging / name).mkdir(parents=True)
    for folder in folders:
        for file in sorted(file for name in TABLES for file in folder.glob(f"{name}/*.parquet")):
            target = merging / file.relative_to(folder)
            if target.exists():
                raise RunError(
                    f"{file}: this unit is in another shard too; measure the shards again with one --shard each"
                )
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
    _require_units(merging, units)


def _require_all_shards(manifests: dict[Path, dict[str, Any]]) -> None:
    """Raise RunError unless these are the manifests of all shards of one run, each once and finished."""
    first_folder, first = next(iter(manifests.items()))
    seen: dict[int, Path] = {}
    for folder, manifest in manifests.items():
        shard = manifest.get("shard")
        if shard is None:
            raise RunError(f"{folder} is a whole run, not a shard; merge takes run folders that `audit --shard` wrote")
        missing_keys = [name for name in NEEDED if name not in manifest]
        if missing_keys:
            raise RunError(
                f"{folder}: its manifest lacks {', '.join(missing_keys)}; measure this shard again into a new folder"
            )
        if manifest["identity"] != first["identity"]:
            raise RunError(
                f"{folder} is of another audit than {first_folder} (other settings, model, adapters, items or code); "
                "shards of one run differ in nothing but --shard"
            )
        made, first_made = (m["adapters"].get("repeated") for m in (manifest, first))
        if made and first_made and made != first_made:
            raise RunError(
                f"{folder} and {first_folder} hold readings of different adapters: the same document's adapter differs, so what "
                "the source reads has changed; measure them again with the same files"
            )
        if shard["of"] != first["shard"]["of"]:
            raise RunError(
                f"{folder} is one of {shard['of']} shards, {first_folder} one of {first['shard']['of']}; give the shards of "
                "one division"
            )
        if shard["number"] in seen:
            raise RunError(
                f"{folder} and {seen[shard['number']]} are both shard {shard['number']}; give each shard once"
            )
        if not manifest.get("complete"):
            raise RunError(f"{folder} is not finished; give the command of shard {shard['number']} again, then merge")
        seen[shard["number"]] = folder
    missing = [n for n in range(1, first["shard"]["of"] + 1) if n not in seen]
    if missing:
        numbers = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise RunError(f"shard {numbers} of {first['shard']['of']} is missing; give the folders of all shards")


def _require_units(folder: Path, units: int) -> None:
    """Raise RunError unless a folder holds readings and layers of so many units."""
    for name in ("readings", "layers"):
        count = sum(1 for _ in (folder / name).glob("*.parquet"))
        if count != units:
            raise RunError(
                f"the shards hold {name} of {count} units, the run has {units}; give each shard's own command again, then merge"
            )


def _merged_manifest(manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The merged manifest: the first shard's, with summed timings, the largest parity gaps, the worst of the
    handshakes, and first start to last finish.
    """
    first = {key: value for key, value in manifests[0].items() if key != "shard"}
    gaps = [m["parity"].get("attribution_max_abs") for m in manifests]
    parity = {
        **first["parity"],
        "logits_max_abs": max(m["parity"]["logits_max_abs"] for m in manifests),
        "attribution_max_abs": max((gap for gap in gaps if gap is not None), default=None),
        "attribution_missed": sum(m["parity"].get("attribution_missed") or 0 for m in manifests),
        "attribution_passed": _passed([m["parity"].get("attribution_passed") for m in manifests]),
        "passed": all(m["parity"].get("passed") for m in manifests),
    }
    refused: list[Any] = []
    for manifest in manifests:
        refused += [row for row in manifest.get("refused") or [] if row not in refused]
    timings = [m.get("timing") or {} for m in manifests]
    timing = {name: sum(t.get(name, 0.0) for t in timings) for name in dict.fromkeys(n for t in timings for n in t)}
    seals = [m.get("seals") for m in manifests]
    units = {key: seal for each in seals if each for key, seal in each["units"].items()}
    files = next((each["files"] for each in seals if each), {})
    adapters = {}
    for manifest in reversed(manifests):
        adapters |= manifest["adapters"]
    return {
        **first,
        "adapters": adapters,
        "parity": parity,
        "refused": refused,
        "handshake": merged_record([m.get("handshake") for m in manifests]),
        "timing": timing,
        "started": min(m["started"] for m in manifests),
        "finished": max(m["finished"] for m in manifests),
        "shards": len(manifests),
        "seals": {"units": units, "files": files} if all(seals) else None,
    }


def _passed(shards: Sequence[bool | None]) -> bool | None:
    """Whether a check passed in all shards that made it; None where none did."""
    made = [passed for passed in shards if passed is not None]
    return all(made) if made else None
