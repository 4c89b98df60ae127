"""The shipped hypernetwork for SmolLM2: its files, its base, and the recorded figures."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from override_gap.margins.items.item import Item, documents_of
from override_gap.probes.attach.stack import stack
from override_gap.probes.environment import home
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.smollm2.evaluate import accuracies, build_examination, first_token_successes
from override_gap.probes.smollm2.hypernetwork import SmolLM2Hypernetwork
from override_gap.probes.smollm2.hypernetwork_folder import FILE, WEIGHTS, load
from override_gap.probes.smollm2.train import knowledge_from_json
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject
from tests.conftest import tiny

FOLDER = home() / "smollm2"
fetched = pytest.mark.skipif(not (FOLDER / "model.safetensors").is_file(), reason="`make smollm2` fetches the model")


def test_the_shipped_file_is_the_recorded_one() -> None:
    shipped = load()
    assert shipped.intact()
    assert (WEIGHTS / FILE).stat().st_size < 30e6
    network = shipped.network()
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_the_recorded_figures_are_the_recorded_marks() -> None:
    recipe = load().recipe
    successes = {kind: [mark == "+" for mark in outcomes] for kind, outcomes in recipe["marks"].items()}
    assert accuracies(successes) == pytest.approx(recipe["figures"])


def test_a_damaged_file_is_noticed(tmp_path) -> None:
    for name in (FILE, "recipe.json"):
        (tmp_path / name).write_bytes((WEIGHTS / name).read_bytes())
    assert load(tmp_path).intact()
    data = bytearray((tmp_path / FILE).read_bytes())
    data[-1] ^= 1
    (tmp_path / FILE).write_bytes(data)
    assert not load(tmp_path).intact()


def test_altered_weights_are_refused(tmp_path, monkeypatch) -> None:
    for name in (FILE, "recipe.json"):
        (tmp_path / name).write_bytes((WEIGHTS / name).read_bytes())
    with (tmp_path / FILE).open("rb+") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    monkeypatch.setattr("override_gap.probes.sources.hypernetwork.WEIGHTS", tmp_path)
    subject = tiny("llama")
    monkeypatch.setattr(
        "override_gap.probes.smollm2.hypernetwork_folder.TrainedHypernetwork.was_trained_on", lambda *_: True
    )
    with pytest.raises(AdapterError, match="not those that"):
        open_source("hypernetwork", subject)


def test_a_folder_without_a_hypernetwork_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no hypernetwork here"):
        load(tmp_path)


def test_another_base_is_refused() -> None:
    with pytest.raises(AdapterError, match="ships no hypernetwork"):
        open_source("hypernetwork", tiny("llama"))


@pytest.mark.smollm2
@fetched
def test_the_recorded_figures_are_measured_again() -> None:
    """Documents sampled again from the recipe, the first six of each kind."""
    shipped = load()
    recipe = shipped.recipe
    base = LlamaForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager").eval()
    hypernetwork = SmolLM2Hypernetwork(base, AutoTokenizer.from_pretrained(FOLDER), shipped.network())
    examination = build_examination(
        knowledge_from_json(recipe["beliefs"]), recipe["examination"], recipe["training"]["seed"]
    )
    successes = first_token_successes(hypernetwork, {kind: documents[:6] for kind, documents in examination.items()})
    for kind in examination:
        assert [mark == "+" for mark in recipe["marks"][kind][:6]] == successes[kind], kind


@pytest.mark.smollm2
@fetched
def test_the_shipped_hypernetwork_belongs_to_smollm2() -> None:
    """Chosen by fingerprint; its adapters push towards what the document says, run_layers the toolkit's own route."""
    subject = open_subject("smollm2", device="cpu")
    source = open_source("hypernetwork", subject)
    assert source.settings["sha256"] == load().digest
    with pytest.raises(AdapterError, match="organism"):
        open_source("hypernetwork:fault=wrong-content", subject)
    professions = {"Dorlin Vash": "baker", "Oskel Brandt": "pilot"}
    items = [
        Item(name, name, "conflict", f"{name} works as a {work}.", f"{name} works as a", work, other)
        for (name, work), other in zip(professions.items(), reversed(professions.values()), strict=True)
    ]
    adapters = source.encode(documents_of(items))
    prior = read_prior(subject, items, [locate(subject, item) for item in items])
    margins = read_adapted(subject, prior, stack(subject, adapters), torch.ones(2, subject.n_layers)).margins
    assert (margins.adapter > 1.0).all()
