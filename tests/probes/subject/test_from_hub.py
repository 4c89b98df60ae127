"""Models by their id: what is fetched, and that they are checked as a folder is."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.from_hub import hub_unreached
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.parity import model_logits
from tests.probes.subject.test_folder_checks import IDS, change, model_folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository somebody/model as files; what is asked for is copied into a cache, as huggingface_hub does."""
    repository, cache = model_folder(tmp_path / "repository"), tmp_path / "cache" / "c0ffee"

    def snapshot_download(name: str, *, revision: str | None = None, allow_patterns: list[str]) -> str:
        assert name == "somebody/model"
        assert revision in (None, "c0ffee")
        for file in repository.rglob("*"):
            wanted = any(fnmatch.fnmatch(str(file.relative_to(repository)), pattern) for pattern in allow_patterns)
            if file.is_file() and wanted:
                target = cache / file.relative_to(repository)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return repository


def fetched(hub: Path) -> set[str]:
    cache = hub.parent / "cache" / "c0ffee"
    return {str(file.relative_to(cache)) for file in cache.rglob("*") if file.is_file()}


def test_a_model_by_its_id_is_the_model_of_its_folder(hub: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "consolidated.safetensors", "modeling_x.py", "README.md"):
        (hub / name).write_text("x")
    subject, plain = open_subject("somebody/model", device="cpu"), open_subject(str(hub), device="cpu")
    assert subject.name == "model"
    assert subject.fingerprint == plain.fingerprint
    assert torch.equal(model_logits(subject.model, IDS), model_logits(plain.model, IDS))
    assert fetched(hub) == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip


def test_weights_in_several_files_are_those_that_the_index_names(hub: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(hub / "model.safetensors")
    (hub / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, hub / file, {"format": "pt"})
    weight_map = {name: file for file, part in parts.items() for name in part}
    (hub / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (hub / "c.safetensors").write_text("x")
    open_subject("somebody/model", device="cpu")
    assert {name for name in fetched(hub) if name.endswith(".safetensors")} == set(parts)


REFUSED: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "an adapter beside the weights": (
        {"adapter_config.json": {"peft_type": "LORA"}},
        "which model is meant is unclear",
    ),
    "a kernel": ({"config.json": {"_attn_implementation": "evil/kernel"}}, "names compiled code"),
    "a billion layers": ({"config.json": {"num_hidden_layers": 10**9}}, "claims 1,000,000,000 layers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_of_a_folder_is_refused_of_an_id(name: str, hub: Path) -> None:
    files, message = REFUSED[name]
    for file, settings in files.items():
        change(hub, file, **settings)
    with pytest.raises(SubjectError, match=message):
        open_subject("somebody/model", device="cpu")


def test_pickles_alone_are_not_fetched(hub: Path) -> None:
    (hub / "model.safetensors").rename(hub / "pytorch_model.bin")
    with pytest.raises(SubjectError, match="no weights in safetensors"):
        open_subject("somebody/model", device="cpu")
    assert "pytorch_model.bin" not in fetched(hub)


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with hub_unreached(), pytest.raises(SubjectError, match="the Hugging Face hub cannot be reached"):
        open_subject("somebody/absent", device="cpu")
