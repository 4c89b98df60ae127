"""An adapter that changes while a run is at work ends the run: readings of the old and the new one are never mixed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load, save_file

from override_gap.margins.items.item import documents_of
from override_gap.probes.errors import AdapterChanged
from override_gap.probes.plan import Plan
from override_gap.probes.run import units
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.sources.compact_index import write_compact
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.store.folder import RunError
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny

ITEMS = [
    conflict(n, f"{word} mu", "red", "blue", tier="deep") for n, word in enumerate("alpha beta gamma delta".split())
]
PLAN = Plan(subject="tiny", adapters="own", items="own", policies="as-delivered", probes=("margins",))
FORMS = ("", "dense:", "generative-adapter:", "compact:")


def written(form: str, place: Path, subject: Subject, rng: torch.Generator) -> Path:
    """Adapters of all documents in one form; returns the file that belongs to the last document to be measured."""
    documents = documents_of(ITEMS)
    adapters = [random_adapter(subject, rng, ("up_proj",)) for _ in documents]
    if form == "":
        for document, adapter in zip(documents, adapters, strict=True):
            write_adapter(adapter, place / document.key)
        return place
    if form == "compact:":
        write_compact(place, documents, adapters, method="own")
    elif form == "dense:":
        keyed = [(d.key, p, u) for d, a in zip(documents, adapters, strict=True) for p, u in a.updates.items()]
        save_file({f"{key}/{path}.weight": update.dense().contiguous() for key, path, update in keyed}, place)
    else:
        stacked = {
            f"documents/{d.key}/mlp.up_proj/{name}": torch.stack([getattr(u, name) for u in a.updates.values()])
            for d, a in zip(documents, adapters, strict=True)
            for name in "AB"
        }
        save_file(stacked, place, metadata={"lora_alpha": "3"})
    return place


@pytest.mark.parametrize("form", FORMS)
def test_a_change_under_a_run_ends_it_and_mixes_nothing(form: str, tmp_path: Path, rng, monkeypatch) -> None:
    monkeypatch.setattr(units, "DOCUMENTS_PER_UNIT", 2)
    subject, place, other = tiny("llama"), tmp_path / "adapters", tmp_path / "new"
    written(form, place, subject, rng)
    written(form, other, subject, rng)
    source = open_source(f"{form}{place}", subject)

    def replaced(done: int, total: int, what: str) -> None:
        if what == "measuring" and 0 < done < total:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            shutil.move(other, place)

    plan_out = tmp_path / "run"
    with pytest.raises(
        AdapterChanged, match=r"(?s)chang.*holds readings of the adapters as they were.*another --out"
    ) as fault:
        run(PLAN, subject, source, ITEMS, plan_out, replaced)
    assert "\n" not in str(fault.value)
    rows = pd.concat(pd.read_parquet(file) for file in (plan_out / "readings").iterdir())
    assert len(rows) == 2 * 2, "the first unit, and not a row of the second"
    assert set(rows["status"]) == {"ok"}
    with pytest.raises(RunError, match="holds another audit"):
        run(PLAN, subject, open_source(f"{form}{place}", subject), ITEMS, plan_out)


DAMAGES = {
    "deleted": lambda file: file.unlink(),
    "emptied": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "overwritten": lambda file: file.write_bytes(b"\xff" * file.stat().st_size),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_damaged_under_a_run_ends_it(form: str, damage: str, tmp_path: Path, rng, monkeypatch) -> None:
    """Its items are no failures of the method: no verdict is read from those that were left."""
    monkeypatch.setattr(units, "DOCUMENTS_PER_UNIT", 2)
    subject, place = tiny("llama"), tmp_path / "adapters"
    written(form, place, subject, rng)

    def damaged(done: int, total: int, what: str) -> None:
        if what == "measuring" and 0 < done < total:
            for file in place.glob("*/adapter_model.safetensors") if place.is_dir() else (place,):
                DAMAGES[damage](file)

    with pytest.raises(AdapterChanged, match=r"holds readings of the adapters as they were"):
        run(PLAN, subject, open_source(f"{form}{place}", subject), ITEMS, tmp_path / "run", damaged)


def test_the_old_adapters_put_back_the_run_goes_on(tmp_path: Path, rng, monkeypatch) -> None:
    monkeypatch.setattr(units, "DOCUMENTS_PER_UNIT", 2)
    subject, place = tiny("llama"), tmp_path / "adapters"
    written("", place, subject, rng)
    first = sorted(place.iterdir())
    before = {folder: (folder / "adapter_model.safetensors").read_bytes() for folder in first}

    def nudged(done: int, total: int, what: str) -> None:
        for folder in first if what == "measuring" and 0 < done < total else ():
            changed = {name: tensor + 1e-3 for name, tensor in load(before[folder]).items()}
            save_file(changed, folder / "adapter_model.safetensors")

    with pytest.raises(AdapterChanged, match=r"adapter_model\.safetensors has changed since it was opened"):
        run(PLAN, subject, open_source(str(place), subject), ITEMS, tmp_path / "run", nudged)
    for folder in first:
        (folder / "adapter_model.safetensors").write_bytes(before[folder])
    whole = run(PLAN, subject, open_source(str(place), subject), ITEMS, tmp_path / "run")
    at_once = run(PLAN, subject, open_source(str(place), subject), ITEMS, tmp_path / "again")
    tables = [pd.read_parquet(out / "readings").sort_values(["item", "condition"]) for out in (whole, at_once)]
    pd.testing.assert_frame_equal(*(t.reset_index(drop=True) for t in tables))
