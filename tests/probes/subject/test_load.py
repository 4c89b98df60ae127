"""Models that cannot be audited, and what a subject's fingerprint depends on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from override_gap.margins.items.item import ItemError
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import SubjectError
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.subject.load import open_subject
from tests.conftest import conflict, random_adapter, tiny
from tests.families import build, down


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model, tokenizer = build("llama")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, change) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file(change(weights), file, metadata={"format": "pt"})


def test_missing_weights_are_refused_instead_of_drawn_at_random(folder: Path) -> None:
    rewrite(folder, lambda w: {k: v for k, v in w.items() if "layers.1.mlp" not in k})
    with pytest.raises(SubjectError, match="3 missing weights"):
        open_subject(str(folder), device="cpu")


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    rewrite(folder, lambda w: {k: v * float("nan") if "layers.1.mlp" in k else v for k, v in w.items()})
    with pytest.raises(SubjectError, match="not all finite"):
        open_subject(str(folder), device="cpu")


def test_damaged_weights_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(SubjectError, match="cannot be loaded"):
        open_subject(str(folder), device="cpu")


def test_the_fingerprint_depends_on_the_configuration(folder: Path) -> None:
    before = open_subject(str(folder), device="cpu").fingerprint
    assert open_subject(str(folder), device="cpu").fingerprint == before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert open_subject(str(folder), device="cpu").fingerprint != before


def test_a_question_longer_than_the_models_positions_is_an_item_error() -> None:
    subject = tiny("gpt2")
    with pytest.raises(ItemError, match="more than the model's 64 positions"):
        locate(subject, conflict(0, " ".join(["alpha"] * 80)))


def test_reading_twice_gives_the_same_margins(rng: torch.Generator) -> None:
    subject, item = tiny("llama"), conflict(0)
    prior = read_prior(subject, [item], [locate(subject, item)])
    adapter = random_adapter(subject, rng, down("llama"))
    ones = torch.ones(1, subject.n_layers)
    first, again = (read_adapted(subject, prior, stack(subject, [adapter]), ones).margins.net for _ in range(2))
    assert torch.equal(first, again)
