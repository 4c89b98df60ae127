"""Folders that other trainers leave: MLX, DeepSpeed, classifiers, whole models: read, or refused for what they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForSequenceClassification

from override_gap.margins.items.item import Document
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.adapter_tree import scan
from override_gap.probes.sources.peft_config import CONFIG
from override_gap.probes.sources.peft_folder import WEIGHTS, PeftFolder, read_adapter
from override_gap.probes.sources.peft_write import write_adapter
from tests.probes.sources.peft_models import IDS, build, opened, ours, saved

DOCUMENT = Document("alpha", ("a",), ("p",))


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_mlx_folder_equals_weights_edited_by_its_rule(kind: str, tmp_path: Path, rng: torch.Generator) -> None:
    """mlx_lm: y = x W^T + scale * x lora_a lora_b; with DoRA rows scaled to m."""
    model, tensors = build("llama"), {}
    for n in (1, 2):
        weight = model.model.layers[n].self_attn.q_proj.weight
        a, b = torch.randn(32, 4, generator=rng) * 0.2, torch.randn(4, 32, generator=rng) * 0.2
        adapted = weight.data + 5.0 * (a @ b).T
        path = f"model.layers.{n}.self_attn.q_proj"
        tensors |= {f"{path}.lora_a": a, f"{path}.lora_b": b}
        if kind == "dora":
            tensors[f"{path}.m"] = m = torch.rand(32, generator=rng) + 0.5
            adapted = m[:, None] * adapted / adapted.norm(dim=1, keepdim=True)
        weight.data = adapted
    save_file(tensors, tmp_path / "adapters.safetensors")
    config = {"fine_tune_type": kind, "num_layers": 2, "lora_parameters": {"rank": 4, "scale": 5.0, "dropout": 0.0}}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    subject = opened("llama")
    got = ours(subject, read_adapter(tmp_path, subject))
    with torch.no_grad():
        assert (model(input_ids=IDS).logits - got).abs().max() < 1e-4
        assert (subject.model(input_ids=IDS).logits - got).abs().max() > 0.1
    older = {"lora_layers": 2, "use_dora": kind == "dora", "lora_parameters": config["lora_parameters"]}
    (tmp_path / CONFIG).write_text(json.dumps(older))  # as MLX wrote it before fine_tune_type
    assert torch.equal(ours(subject, read_adapter(tmp_path, subject)), got)
    before = scan(tmp_path).sha256
    save_file({**tensors, next(iter(tensors)): torch.zeros(32, 4)}, tmp_path / "adapters.safetensors")
    assert scan(tmp_path).sha256 != before


@pytest.mark.parametrize(
    ("family", "theirs", "here", "map_path"),
    [
        ("gpt2", "model.h", "transformer.h", "attn.c_attn"),
        ("vision", "language_model.model.layers", "model.language_model.layers", "self_attn.q_proj"),
    ],
)
def test_an_mlx_folder_keeps_its_scale_where_mlx_has_other_paths(
    family: str, theirs: str, here: str, map_path: str, tmp_path: Path, rng: torch.Generator
) -> None:
    """MLX's own classes of a model: `model.h` of GPT-2, `language_model.model` of Gemma-3."""
    model = build(family)
    module = model.get_submodule(f"{here}.1.{map_path}")
    rows, columns = module.weight.shape if family == "gpt2" else reversed(module.weight.shape)
    a, b = torch.randn(rows, 4, generator=rng) * 0.2, torch.randn(4, columns, generator=rng) * 0.2
    module.weight.data += 5.0 * (a @ b if family == "gpt2" else (a @ b).T)
    save_file(
        {f"{theirs}.1.{map_path}.lora_{s}": t for s, t in (("a", a), ("b", b))}, tmp_path / "adapters.safetensors"
    )
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 5.0}}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    subject = opened(family)
    got = ours(subject, read_adapter(tmp_path, subject))
    with torch.no_grad():
        assert (model(input_ids=IDS).logits - got).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fine_tune_type": "full"}, "fine_tune_type is 'full'; need lora or dora"),
        ({"lora_parameters": {"rank": 4}}, "without lora_parameters.scale"),
        ({}, r"tensor 'model.norm.weight' of shape \[32\] is no factor of a linear map"),
    ],
)
def test_an_mlx_folder_that_is_no_lora_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    save_file({"model.norm.weight": torch.ones(32)}, tmp_path / "adapters.safetensors")
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 5.0}, **change}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(AdapterError, match=message):
        read_adapter(tmp_path, opened("llama"))


def test_a_classifiers_adapter_is_refused_for_its_head(tmp_path: Path) -> None:
    model = LlamaForSequenceClassification(build("llama").config)
    peft = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="SEQ_CLS"))
    peft.save_pretrained(str(tmp_path))
    with pytest.raises(
        AdapterError, match=r"score\.weight is saved.*task_type is SEQ_CLS: it was trained with another head"
    ):
        read_adapter(tmp_path, opened("llama"))


def test_an_adapter_of_the_model_without_its_head_is_read(tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="FEATURE_EXTRACTION")
    peft = get_peft_model(build("llama").model, config)
    peft.save_pretrained(str(tmp_path))
    assert all(key.startswith("base_model.model.layers.") for key in load_file(tmp_path / WEIGHTS))
    subject = opened("llama")
    got = subject.logits(peft.eval()(input_ids=IDS).last_hidden_state)
    assert (ours(subject, read_adapter(tmp_path, subject)) - got).abs().max() < 1e-4


def test_shards_that_were_not_gathered_are_named(tmp_path: Path) -> None:
    saved(tmp_path, "llama", target_modules=["q_proj"])
    save_file({key: torch.zeros(0) for key in load_file(tmp_path / WEIGHTS)}, tmp_path / WEIGHTS)
    with pytest.raises(AdapterError, match=r"tensors are empty.*ZeRO-3"):
        read_adapter(tmp_path, opened("llama"))


def test_a_folder_of_one_named_adapter_says_which_folder_to_give(tmp_path: Path) -> None:
    saved(tmp_path / "mine", "llama", target_modules=["q_proj"])
    with pytest.raises(AdapterError, match=r"for one adapter that serves every document give .*mine$"):
        PeftFolder(opened("llama"), tmp_path).encode([DOCUMENT])


def test_a_whole_model_is_no_adapter_folder(tmp_path: Path) -> None:
    build("llama").save_pretrained(str(tmp_path))
    with pytest.raises(
        AdapterError, match=r"no adapter_config\.json here or in a folder below; .*\(a whole model's folder"
    ):
        PeftFolder(opened("llama"), tmp_path).encode([DOCUMENT])


def test_experts_are_not_written_as_a_folder_that_peft_could_not_read(tmp_path: Path) -> None:
    subject = opened("mixtral")
    saved(tmp_path / "in", "mixtral", target_modules=["q_proj"], target_parameters=["mlp.experts.down_proj"])
    adapter = read_adapter(tmp_path / "in", subject)
    with pytest.raises(AdapterError, match="is part of a parameter, not a linear map"):
        write_adapter(adapter, tmp_path / "out", sites=subject.sites)
