"""The run folder: tables written whole or not at all, keyed by content, so that a run resumes where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

READINGS = pa.schema(
    [
        *[pa.field(n, pa.string()) for n in ("item", "point", "split", "tier", "condition")],
        pa.field("known", pa.bool_()),
        *[
            pa.field(n, pa.float64())
            for n in (
                "prior_logprob",
                "prior_logprob_per_token",
                "prior_margin",
                "push",
                "pull",
                "adapter_margin",
                "net_margin",
            )
        ],
        *[
            pa.field(n, pa.bool_())
            for n in ("success_margin", "success_top1", "success_answer", "success_answer_substring")
        ],
        *[pa.field(n, pa.string()) for n in ("answer_text", "base_top_token")],
        *[pa.field(n, pa.float64()) for n in ("base_top_prob", "gain_mean", "adapter_norm")],
        pa.field("n_question_tokens", pa.int64()),
        *[pa.field(n, pa.string()) for n in ("status", "error")],
        pa.field("frequency", pa.float64()),
        *[pa.field(n, pa.string()) for n in ("wording", "top_token")],
        *[pa.field(n, pa.float64()) for n in ("top_prob", "doc_logprob")],
        *[pa.field(n, pa.string()) for n in ("question", "document", "answer", "prior_answer")],
        *[pa.field(n, pa.float64()) for n in ("critical_gain", "critical_gain_predicted")],
        *[pa.field(n, pa.list_(pa.string())) for n in ("aliases", "prior_aliases")],
    ]
)
LAYERS = pa.schema(
    [
        *[pa.field(n, pa.string()) for n in ("item", "point", "split", "condition")],
        pa.field("layer", pa.int64()),
        *[pa.field(n, pa.float64()) for n in ("norm", "gain", "attribution", "lens", "direct", "alone", "removed")],
    ]
)
DRAWN = pa.schema(
    [
        *[pa.field(n, pa.string()) for n in ("item", "point", "split", "tier", "condition")],
        pa.field("known", pa.bool_()),
        pa.field("temperature", pa.float64()),
        pa.field("draw", pa.int64()),
        pa.field("answer_text", pa.string()),
        *[pa.field(n, pa.bool_()) for n in ("success_answer", "success_answer_substring")],
    ]
)
Rows = Sequence[Mapping[str, Any]]


class RunError(ValueError):
    """A run folder that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Store:
    """One run folder. A unit is done when its readings are there; its layers are written before them."""

    path: Path

    def open(self, manifest: Mapping[str, Any], identity: str) -> Mapping[str, Any]:
        """Create the folder, or take up the run that is in it; returns the manifest as it was, or the new one.

        Raises RunError where the folder holds something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; --out needs a folder")
        unlinked(self.path)
        old = self.manifest() if (self.path / "manifest.json").exists() else None
        if old is None and self.path.exists() and any(self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no run; give --out a new folder")
        if old is not None and old.get("identity") != identity:
            raise RunError(
                f"{self.path} holds another audit (other settings, model, adapters, items or code); give --out a new folder"
            )
        try:
            for name in ("readings", "layers", "figures"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            if old is None:
                self.write_json("manifest.json", manifest)
        except OSError as fault:
            raise RunError(f"{self.path}: cannot be written: {fault.strerror or fault}") from fault
        return manifest if old is None else old

    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands. Raises RunError where it is missing or damaged."""
        file = self.path / "manifest.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as fault:
            raise RunError(f"{file}: cannot be read: {fault}") from fault

    def begun(self) -> bool:
        """Whether a run is here."""
        return (self.path / "manifest.json").is_file()

    def done(self, key: str) -> bool:
        """Whether both of a unit's tables are here."""
        return all((self.path / name / f"{key}.parquet").is_file() for name in ("readings", "layers"))

    def write_unit(self, key: str, readings: Rows, layers: Rows, drawn: Rows = ()) -> None:
        """Write a unit's tables, the readings last; that of the drawn answers only where there are any."""
        if drawn:
            (self.path / "drawn").mkdir(exist_ok=True)
            self._write_table("drawn", key, drawn, DRAWN)
        self._write_table("layers", key, layers, LAYERS)
        self._write_table("readings", key, readings, READINGS)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file of the run, whole or not at all."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        _replace(self.path / name, lambda file: file.write_text(text, encoding="utf-8"))

    def _write_table(self, folder: str, key: str, rows: Rows, schema: pa.Schema) -> None:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
        _replace(self.path / folder / f"{key}.parquet", lambda file: pq.write_table(table, file))


def unlinked(run: Path) -> None:
    """Raise RunError where a run folder holds a symbolic link: what is written through one lands elsewhere."""
    for folder, folders, files in os.walk(run):
        for name in (*folders, *files):
            if (Path(folder) / name).is_symlink():
                raise RunError(
                    f"{Path(folder) / name} is a symbolic link; a run folder is written to and holds none, remove it"
                )


def _replace(target: Path, write: Any) -> None:
    """Write beside the target, flush to disk, then rename: a torn file is never taken for a reading."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
