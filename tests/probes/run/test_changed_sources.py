"""What a user's own source reads, and what a worker opens again, is compared with what the run began with."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from override_gap.margins.adapter import Adapter, AdapterSource
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.errors import AdapterChanged
from override_gap.probes.plan import code_hash
from override_gap.probes.run import units
from override_gap.probes.run.engine import FinishedUnit, Job, Local, Unit
from override_gap.probes.run.loop import run, run_plan
from override_gap.probes.run.ray import Worker
from override_gap.probes.run.resolve import resolve
from override_gap.probes.sources import open_source
from override_gap.probes.store.folder import RunError
from override_gap.probes.store.run_store import RunStore
from override_gap.probes.subject.model import Subject
from tests.conftest import tiny
from tests.probes.run.test_changed_adapters import ITEMS, PLAN, written


@dataclass
class OwnSource:
    """A user's own source that reads a file whenever it is asked for adapters; `hashed`: its settings hash that file."""

    file: Path
    hashed: bool = False
    noisy: bool = False
    name: str = "own"

    @property
    def settings(self) -> dict[str, str]:
        return {"sha256": sha256(self.file.read_bytes()).hexdigest()} if self.hashed else {}

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        scale = float(self.file.read_text()) * (1 + (random.random() if self.noisy else 0))
        A, B = torch.ones(1, 48), torch.ones(32, 1)
        return [Adapter(d.key, {"model.layers.0.mlp.down_proj": LowRank(A, B, scale)}) for d in documents]


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("killed", [True, False])
def test_a_file_that_a_users_own_source_reads(hashed: bool, killed: bool, tmp_path: Path, monkeypatch) -> None:
    """While the run is at work, or between two commands: `killed`."""
    monkeypatch.setattr(units, "DOCUMENTS_PER_UNIT", 2)
    subject, file = tiny("llama"), tmp_path / "scale"
    file.write_text("0.01")

    def changed(done: int, total: int, what: str) -> None:
        if what == "measuring" and 0 < done < total:
            if killed:
                raise KeyboardInterrupt
            file.write_text("0.02")

    how = KeyboardInterrupt if killed else AdapterChanged
    with pytest.raises(how):
        run(PLAN, subject, OwnSource(file, hashed), ITEMS, tmp_path / "run", changed)
    file.write_text("0.02")
    # settings that hash the file make it another audit; else the adapter that is made again tells
    with pytest.raises(
        (RunError, AdapterChanged), match="holds another audit" if hashed else "what the source reads has changed"
    ):
        run(PLAN, subject, OwnSource(file, hashed), ITEMS, tmp_path / "run")
    assert len(list((tmp_path / "run" / "readings").iterdir())) == 1
    file.write_text("0.01")
    run(PLAN, subject, OwnSource(file, hashed), ITEMS, tmp_path / "run")


def test_a_source_that_gives_another_adapter_each_time_is_not_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(units, "DOCUMENTS_PER_UNIT", 2)
    (tmp_path / "scale").write_text("0.01")
    run(PLAN, tiny("llama"), OwnSource(tmp_path / "scale", noisy=True), ITEMS, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["adapters"]["repeated"]["sha256"] is None


def test_a_worker_that_was_started_again_measures_with_what_the_run_began_with(
    tmp_path: Path, rng, monkeypatch
) -> None:
    """Ray starts a lost worker again, which opens everything anew: also files that were saved anew meanwhile."""
    monkeypatch.setattr(units, "DOCUMENTS_PER_UNIT", 2)
    subject, place, folder = tiny("llama"), tmp_path / "adapters", tmp_path / "run"
    written("", place, subject, rng)
    jobs: list[tuple[Job, Unit, RunStore]] = []

    def opened() -> tuple[Subject, AdapterSource]:
        return subject, open_source(str(place), subject)

    class Recording(Local):
        def measure(self, job: Job, pending: Sequence[Unit], store: RunStore) -> Iterator[FinishedUnit]:
            jobs.extend((job, unit, store) for unit in pending)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(Recording(*opened()), resolve(PLAN, ITEMS), folder)
    first, second = jobs
    assert Worker(opened, 1, code_hash()).measure(*first).faults == 0
    written("", place, subject, rng)
    with pytest.raises(AdapterChanged, match="settings are no longer those that the run began with"):
        Worker(opened, 1, code_hash()).measure(*second)
    with torch.no_grad():
        subject.model.get_input_embeddings().weight[60, 0] += 1e-6
    other = replace(subject, fingerprint="another")
    with pytest.raises(RunError, match="the model is no longer what the run began with"):
        Worker(lambda: (other, opened()[1]), 1, code_hash()).measure(*second)
    assert len(list((folder / "readings").iterdir())) == 1
