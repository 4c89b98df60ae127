"""GGUF files of every family that transformers reads: the logits are those of the weights that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from benchmarks.families import configs
from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.parity import model_logits
from tests.probes.subject.gguf_files import TOKENS, write_gguf

IDS = torch.tensor([[5, 9, 77, 30, 100, 41, 12, 60, 4]])
#: The family, and settings that transformers does not read from GGUF: it takes its own defaults, those of the real models.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("bloom", {}),
    "falcon": ("falcon", {}),
    "gemma2": ("gemma2", {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0}),
    "gemma3": ("gemma3_text", {}),
    "gpt2": ("gpt2", {"n_inner": None, "n_positions": 1024}),
    "lfm2": ("lfm2", {"block_auto_adjust_ff_dim": False}),
    "llama": ("llama", {}),
    "mamba": ("mamba", {}),
    "minimax-m2": ("minimax_m2", {}),
    "mistral": ("mistral", {"sliding_window": 4096}),
    "nemotron": ("nemotron", {}),
    "phi3": ("phi3", {"vocab_size": 32064}),
    "qwen2": ("qwen2", {}),
    "qwen2moe": ("qwen2_moe", {"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632}),
    "qwen3": ("qwen3", {"head_dim": 128}),
    "qwen3moe": ("qwen3_moe", {"head_dim": 128, "moe_intermediate_size": 768, "norm_topk_prob": True}),
    "stablelm": ("stablelm", {}),
    "starcoder2": ("starcoder2", {}),
}
#: Names of the mapping that are no family of causal language models that can be tried here, with the reason.
OTHERS = {
    "general": "not a family",
    "tokenizer": "not a family",
    "t5": "an encoder and a decoder",
    "umt5": "an encoder and a decoder",
    "deci": "a Llama with layers of different shapes, whose class comes as remote code",
    "gemma4": "its per-layer inputs are stored under names that the gguf package does not map",
    "gpt_oss": "its experts are stored in a format of their own (mxfp4), which transformers maps to other names",
}


def model_of(family: str, monkeypatch: pytest.MonkeyPatch, **further: Any) -> Any:
    model_type, settings = FAMILIES[family]
    changed = {**configs.FAMILIES[model_type], "vocab_size": len(TOKENS), **settings, **further}
    monkeypatch.setitem(configs.FAMILIES, model_type, changed)
    return configs.build(model_type)


def written(model: Any, family: str, folder: Path, **extra: Any) -> str:
    if family == "mistral":  # llama.cpp has no family of this name: it is stored as a Llama
        return str(write_gguf(model, "llama", folder / "mistral.gguf", extra, name="Mistral 7B"))
    if family == "lfm2":  # heads of keys by layer, 0 where a layer is a convolution
        extra["attention.head_count_kv"] = [0, 2, 0]
    return str(write_gguf(model, family, folder / f"{family}.gguf", extra))


def test_every_family_of_the_library_is_tried_or_named() -> None:
    tried = {name.replace("qwen2moe", "qwen2_moe").replace("qwen3moe", "qwen3_moe") for name in FAMILIES}
    assert {name.replace("minimax-m2", "minimax_m2") for name in tried} | set(OTHERS) == set(GGUF_CONFIG_MAPPING)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_weights_written(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(family, monkeypatch)
    subject = open_subject(written(model, family, tmp_path), device="cpu", dtype="float32")
    assert (model_logits(subject.model, IDS) - model_logits(model, IDS)).abs().max() < 1e-4
    assert subject.parity_fault() is None
    assert len(subject.blocks) == model.config.num_hidden_layers


def test_frequency_factors_of_llama_3_are_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same weights with the scaling in their configuration; the file holds its factors as a tensor."""
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 64, "rope_theta": 10000.0}
    model = model_of("llama", monkeypatch, rope_parameters=scaling)
    plain = 1.0 / 10000.0 ** (torch.arange(0, 8, 2) / 8)
    factors = plain / model.model.rotary_emb.inv_freq
    assert factors.max() > 2
    path = write_gguf(model, "llama", tmp_path / "llama.gguf", tensors={"rope_freqs.weight": factors.numpy()})
    subject = open_subject(str(path), device="cpu", dtype="float32")
    assert (model_logits(subject.model, IDS) - model_logits(model, IDS)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("family", "extra", "message"),
    [
        (
            "gemma3",
            {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
            "scales rotary positions .linear, factor 8",
        ),
        ("gemma2", {"final_logit_softcapping": 20.0}, "final_logit_softcapping 20, and transformers reads it as 30"),
    ],
)
def test_what_the_library_leaves_out_of_a_file_is_refused(
    family: str, extra: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(family, monkeypatch)
    with pytest.raises(SubjectError, match=message):
        open_subject(written(model, family, tmp_path, **extra), device="cpu", dtype="float32")


def test_a_file_in_bfloat16_reads_as_its_weights_rounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen2", monkeypatch)
    subject = open_subject(written(model, "qwen2", tmp_path), device="cpu", dtype="bfloat16")
    model.save_pretrained(tmp_path / "folder")
    rounded = type(model).from_pretrained(tmp_path / "folder", dtype=torch.bfloat16)
    assert torch.equal(model_logits(subject.model, IDS), model_logits(rounded, IDS))
