"""Blocks and final norm are found by running a model once: they are TransformerLens's where it knows the model."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

from benchmarks.families.check import word_tokenizer
from benchmarks.families.configs import build
from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.model import wrap
from override_gap.probes.subject.structure import find_structure, structure_of_bridge

IDS = torch.tensor([[3, 4, 5, 6]])


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2"])
def test_the_structure_found_by_running_is_transformerlenss(model_type: str) -> None:
    model = build(model_type)
    found = find_structure(model, IDS)
    subject = wrap(model, word_tokenizer(), model_type)
    assert found.blocks == subject.blocks
    assert found.final_norm is subject.bridged.structure.final_norm
    with subject.bridged.as_bridge() as bridge:
        theirs = structure_of_bridge(bridge)
    assert found.blocks == theirs.blocks
    assert found.final_norm is theirs.final_norm
    assert found.d_model == theirs.d_model == 32


def test_opening_a_model_does_not_load_transformerlens() -> None:
    code = "import sys; from override_gap.probes.subject.load import open_subject; open_subject('organism'); "
    code += "sys.exit('transformer_lens' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_that_transformerlens_does_not_know_keeps_its_own_modules_and_is_read() -> None:
    plain = build("helium")
    subject = wrap(copy.deepcopy(plain), word_tokenizer(), "helium")
    assert not any(isinstance(module, GeneralizedComponent) for module in subject.model.modules())
    assert list(subject.blocks) == list(subject.model.model.layers)
    assert subject.norm is not None
    with pytest.raises(ValueError, match="TransformerLens does not know"), subject.bridged.as_bridge():
        pass


def test_a_part_that_is_none_is_none_again_after_the_bridge() -> None:
    model = build("granitemoehybrid")
    assert model.model.rotary_emb is None
    wrap(model, word_tokenizer(), "granitemoehybrid")
    assert model.model.rotary_emb is None


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("gemma3n_text", "its final state is not the last layer's output"), ("longcat_flash", "no list of 4 layers")],
)
def test_a_model_whose_stream_is_of_another_kind_is_refused_with_the_reason(model_type: str, reason: str) -> None:
    with pytest.raises(SubjectError, match=reason):
        wrap(build(model_type), word_tokenizer(), model_type)


@pytest.mark.parametrize("model_type", ["falcon_h1", "recurrent_gemma", "cohere", "gemma2"])
def test_the_heads_multiplier_or_cap_is_read_by_its_familys_name(model_type: str) -> None:
    model = build(model_type)
    with torch.no_grad():
        own = model(input_ids=IDS).logits[0]
        subject = wrap(model, word_tokenizer(), model_type)
        read = subject.logits(subject.decoder(input_ids=IDS).last_hidden_state[0])
    assert subject.cap is not None or subject.logit_scale != 1.0
    assert torch.allclose(read, own, atol=1e-5)
