"""Adapters in every other form saved anew while a run is at work: it ends, and mixes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from override_gap.margins.adapter import AdapterSource
from override_gap.margins.items.item import documents_of
from override_gap.margins.updates import LowRank, Update
from override_gap.probes.errors import AdapterChanged
from override_gap.probes.run import units
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.sources.compact_index import write_compact
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.store.folder import RunError
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.sites import base_weight
from tests.conftest import random_adapter, tiny
from tests.probes.run.test_changed_adapters import ITEMS, PLAN

#: Further forms, each changed under a run once.
OTHERS = (
    "one for all",
    "shared",
    "map",
    "unscaled:",
    "mlx",
    "whole",
    "shine:",
    "doc-to-lora:",
    "prefix:",
    "compact folder",
)


def written_otherwise(form: str, place: Path, subject: Subject, rng: torch.Generator) -> Callable[[], AdapterSource]:
    """Adapters of all documents in one of OTHERS, at `place`; returns what opens them."""
    documents = documents_of(ITEMS)
    made = {d.key: random_adapter(subject, rng, ("up_proj",)) for d in documents}
    keyed = [(key, path, update) for key, adapter in made.items() for path, update in adapter.updates.items()]
    if form in ("shine:", "doc-to-lora:"):
        stacked = {
            f"documents/{key}/mlp.up_proj/{name}": torch.stack(
                [factor(form, update, name) for owner, _, update in keyed if owner == key]
            )
            for key in made
            for name in "AB"
        }
        save_file(stacked, place, metadata={"lora_alpha": "2"})
        return lambda: open_source(f"{form}{place}", subject)
    if form == "prefix:":
        kinds = ("trainable_keys", "trainable_values")
        names = [f"documents/{key}/{kind}/{layer}" for key in made for kind in kinds for layer in range(3)]
        save_file({name: torch.randn(1, 2, 2, 8, generator=rng) for name in names}, place)
        return lambda: open_source(f"prefix:{place}", subject)
    if form == "compact folder":
        place.mkdir()
        for number, half in enumerate((documents[:2], documents[2:])):
            write_compact(place / f"{number}.safetensors", half, [made[d.key] for d in half], method="own")
        return lambda: open_source(f"compact:{place}", subject)
    folders = {"one for all": [place], "shared": [place / "a" / d.key for d in documents] + [place / "shared"]}
    for n, folder in enumerate(folders.get(form) or [place / d.key for d in documents]):
        adapter = list(made.values())[n % len(made)]
        write_adapter(adapter, folder)
        if form == "whole":
            config = json.loads((folder / "adapter_config.json").read_text())
            path, update = next(iter(adapter.updates.items()))
            whole = base_weight(subject.sites[path]) + update.dense()
            config |= {"modules_to_save": ["up_proj"], "target_modules": ["down_proj"]}
            (folder / "adapter_config.json").write_text(json.dumps(config))
            save_file({f"base_model.model.{path}.weight": whole.contiguous()}, folder / "adapter_model.safetensors")
        if form == "mlx":
            (folder / "adapter_model.safetensors").unlink()
            save_file(
                {
                    f"{p}.lora_{n.lower()}": getattr(u, n).T.contiguous()
                    for p, u in adapter.updates.items()
                    for n in "AB"
                },
                folder / "adapters.safetensors",
            )
            told = {
                "fine_tune_type": "lora",
                "num_layers": 3,
                "lora_parameters": {"rank": 3, "scale": 2.0, "dropout": 0.0},
            }
            (folder / "adapter_config.json").write_text(json.dumps(told))
    if form == "shared":
        return lambda: open_source(str(place / "a"), subject, shared_adapter=str(place / "shared"))
    if form == "map":
        rows = {d.key: made_of.name for d, made_of in zip(documents, sorted(place.iterdir()), strict=True)}
        mapped = place.with_name("map.json")
        mapped.write_text(json.dumps(rows))
        return lambda: open_source(str(place), subject, adapter_map=str(mapped))
    return lambda: open_source(f"{form if form.endswith(':') else ''}{place}", subject)


def factor(form: str, update: Update, name: str) -> torch.Tensor:
    """A factor as SHINE ([d_in, rank] and [rank, d_out]) or Doc-to-LoRA ([rank, d_in] and [rank, d_out]) store it."""
    assert isinstance(update, LowRank)
    return (
        update.A.T.contiguous()
        if (form, name) == ("shine:", "A")
        else update.A
        if name == "A"
        else update.B.T.contiguous()
    )


@pytest.mark.parametrize("form", OTHERS)
def test_every_form_is_compared_with_what_was_hashed(form: str, tmp_path: Path, rng, monkeypatch) -> None:
    monkeypatch.setattr(units, "DOCUMENTS_PER_UNIT", 2)
    subject, place = tiny("llama"), tmp_path / "adapters"
    source = written_otherwise(form, place, subject, rng)()

    def saved_anew(done: int, total: int, what: str) -> None:
        if what == "measuring" and 0 < done < total:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            written_otherwise(form, place, subject, rng)

    with pytest.raises(AdapterChanged, match=r"chang"):
        run(PLAN, subject, source, ITEMS, tmp_path / "run", saved_anew)
    rows = pd.concat(pd.read_parquet(file) for file in (tmp_path / "run" / "readings").iterdir())
    assert len(rows) == 2 * 2
    assert set(rows["status"]) == {"ok"}
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    reopened = written_otherwise(form, place, subject, rng)()
    with pytest.raises(RunError, match="holds another audit"):
        run(PLAN, subject, reopened, ITEMS, tmp_path / "run")
