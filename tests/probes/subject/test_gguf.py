"""GGUF files of every family that transformers reads: the logits are those of the weights that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from benchmarks.families.gguf_files import GGUF_FAMILIES, OTHERS, model_of, write_family, write_gguf
from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.parity import model_logits

IDS = torch.tensor([[5, 9, 77, 30, 100, 41, 12, 60, 4]])


def test_every_family_of_the_library_is_tried_or_named() -> None:
    tried = {name.replace("qwen2moe", "qwen2_moe").replace("qwen3moe", "qwen3_moe") for name in GGUF_FAMILIES}
    assert {name.replace("minimax-m2", "minimax_m2") for name in tried} | set(OTHERS) == set(GGUF_CONFIG_MAPPING)


@pytest.mark.parametrize("family", GGUF_FAMILIES)
def test_logits_are_those_of_the_weights_write_family(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    subject = open_subject(write_family(model, family, tmp_path), device="cpu", dtype="float32")
    assert (model_logits(subject.model, IDS) - model_logits(model, IDS)).abs().max() < 1e-4
    assert subject.parity_fault() is None
    assert len(subject.blocks) == model.config.num_hidden_layers


def test_frequency_factors_of_llama_3_are_applied(tmp_path: Path) -> None:
    """Against the same weights with the scaling in their configuration; the file holds its factors as a tensor."""
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 64, "rope_theta": 10000.0}
    model = model_of("llama", rope_parameters=scaling)
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
    family: str, extra: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = model_of(family)
    with pytest.raises(SubjectError, match=message):
        open_subject(write_family(model, family, tmp_path, **extra), device="cpu", dtype="float32")


def test_a_file_in_bfloat16_reads_as_its_weights_rounded(tmp_path: Path) -> None:
    model = model_of("qwen2")
    subject = open_subject(write_family(model, "qwen2", tmp_path), device="cpu", dtype="bfloat16")
    model.save_pretrained(tmp_path / "folder")
    rounded = type(model).from_pretrained(tmp_path / "folder", dtype=torch.bfloat16)
    assert torch.equal(model_logits(subject.model, IDS), model_logits(rounded, IDS))
