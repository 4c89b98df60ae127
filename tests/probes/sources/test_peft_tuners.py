"""Every tuner kind that PEFT can save: its own logits are matched, or it is refused for what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.lora.config import BdLoraConfig, KasaConfig, MontecloraConfig, VeloraConfig
from safetensors.torch import load_file, save_file

from override_gap.margins.items.item import Document
from override_gap.margins.runtime import Prefix
from override_gap.probes.attach.runtime import RuntimeBatch, batched, final_states
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.peft_config import CONFIG
from override_gap.probes.sources.peft_folder import WEIGHTS, PeftFolder, read_adapter
from override_gap.probes.sources.peft_prompts import PROMPTS
from override_gap.probes.sources.peft_tuners import NO_UPDATE
from override_gap.probes.subject.forward import Batch
from tests.probes.sources.peft_models import IDS, gap, opened, pefts, saved

MAPS = {"target_modules": ["q_proj", "down_proj"]}
MATCHED: dict[str, dict[str, Any]] = {
    "LORA": {"r": 4, **MAPS},
    "ADALORA": {"total_step": 10, "init_r": 4, "target_r": 4, **MAPS},
    "BEFT": {"target_modules": ["v_proj"]},
    "BOFT": {"boft_block_size": 4, **MAPS},
    "C3A": {"block_size": 4, **MAPS},
    "DEFT": MAPS,
    "DELORA": MAPS,
    "FOURIERFT": {"n_frequency": 16, **MAPS},
    "FROD": MAPS,
    "GLORA": MAPS,
    "GRALORA": MAPS,
    "HIRA": MAPS,
    "HRA": MAPS,
    "IA3": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "LOHA": MAPS,
    "LOKR": MAPS,
    "MISS": {"r": 4, **MAPS},
    "OFT": {"oft_block_size": 4, "r": 0, **MAPS},
    "OSF": MAPS,
    "PEANUT": MAPS,
    "PSOFT": MAPS,
    "PVERA": {"r": 4, **MAPS},
    "RANDLORA": MAPS,
    "ROAD": {"group_size": 8, **MAPS},
    "SHIRA": {"r": 4, **MAPS},
    "SUPERTUNING": MAPS,
    "TINYLORA": MAPS,
    "UNILORA": MAPS,
    "VBLORA": {"num_vectors": 8, "vector_length": 4, "topk": 2, **MAPS},
    "VERA": {"r": 4, **MAPS},
    "WAVEFT": {"n_frequency": 16, **MAPS},
}
POSITIONS: dict[str, dict[str, Any]] = {
    "PROMPT_TUNING": {},
    "P_TUNING": {"encoder_hidden_size": 16},
    "PREFIX_TUNING": {},
    "CARTRIDGE": {},
    "CPT": {"cpt_token_ids": [3, 4, 5], "cpt_tokens_type_mask": [1, 2, 3]},
}
UNTRIED = {"ADAMSS"}  # PEFT needs scikit-learn to make one


def config(kind: str, settings: dict[str, Any]) -> Any:
    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](**settings)


def test_every_kind_of_peft_is_matched_or_refused_or_said_to_be_untried_and_has_a_row() -> None:
    kinds = {kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    assert kinds == {*MATCHED, *POSITIONS, *NO_UPDATE, *UNTRIED}
    assert set(POSITIONS) == set(PROMPTS)
    assert not set(MATCHED) & set(NO_UPDATE)
    page = (Path(__file__).parents[3] / "docs" / "methods.md").read_text()
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (matched|as delivered|refused|not tried) ", page, re.M)
    said = dict(rows)
    expected = {"matched": MATCHED, "as delivered": POSITIONS, "refused": NO_UPDATE, "not tried": UNTRIED}
    assert said == {kind: outcome for outcome, names in expected.items() for kind in names}


@pytest.mark.parametrize("kind", sorted(MATCHED))
def test_a_tuner_equals_pefts_own_forward(kind: str, tmp_path: Path) -> None:
    saved(tmp_path, "llama", config(kind, MATCHED[kind]))
    assert gap(tmp_path, "llama")[0] < 1e-4


@pytest.mark.parametrize("kind", ["IA3", "VERA"])
def test_a_tuner_of_conv1d_weights_equals_pefts_own_forward(kind: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**MATCHED[kind], "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
    saved(tmp_path, "gpt2", config(kind, settings | ({"feedforward_modules": ["c_fc"]} if kind == "IA3" else {})))
    assert gap(tmp_path, "gpt2")[0] < 1e-4


def test_whole_modules_and_biases_beside_a_tuner_equal_pefts_own_forward(tmp_path: Path) -> None:
    saved(tmp_path, "qwen2", config("BOFT", {"boft_block_size": 4, **MAPS, "bias": "boft_only"}))
    assert gap(tmp_path, "qwen2")[0] < 1e-4
    folder = saved(tmp_path / "whole", "llama", config("LOHA", {**MAPS, "modules_to_save": ["up_proj"]}))
    difference, adapter = gap(folder, "llama")
    assert difference < 1e-4
    assert "model.layers.0.mlp.up_proj" in adapter.updates


VARIANTS: dict[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "eva": {"init_lora_weights": "eva"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "kasa": {"kasa_config": KasaConfig()},
    "velora": {"velora_config": VeloraConfig()},
    "monteclora": {"monteclora_config": MontecloraConfig()},
    "block-diagonal": {
        "use_bdlora": BdLoraConfig(target_modules_bd_a=["q_proj"], target_modules_bd_b=["down_proj"], nblocks=2)
    },
    "layers": {"layers_to_transform": [1]},
}


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_variant_of_lora_equals_pefts_own_forward(variant: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, **MAPS, **VARIANTS[variant]}
    saved(tmp_path, "llama", LoraConfig(**settings))
    assert gap(tmp_path, "llama")[0] < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, "cannot be made again from this one"),
        ({"init_lora_weights": "corda"}, "add to a changed base"),
        ({"init_lora_weights": "lora_ga"}, "add to a changed base"),
        ({"alora_invocation_tokens": [3]}, "acts at some positions only"),
        ({"arrow_config": {"top_k": 2}}, "a router that reads the input"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "need a LoRA of a transformers model"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is set"),
        ({"peft_type": "NEWEST"}, "which this PEFT does not know"),
        ({"peft_type": 3}, "need a kind of PEFT"),
        ({"peft_type": "LOHA", "rank_pattern": [1]}, "rank_pattern must map module names to numbers"),
        ({"peft_type": "LOHA", "r": 10**9}, "r is 1000000000; need at most"),
        ({"peft_type": "LOKR"}, "PEFT cannot load this LOKR adapter|tensors of this LOKR adapter"),
    ],
)
def test_what_cannot_be_measured_is_refused_for_what_it_is(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    saved(tmp_path, "llama", target_modules=["q_proj", "down_proj"])
    stated = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**stated, **change}))
    with pytest.raises(AdapterError, match=message) as caught:
        read_adapter(tmp_path, opened("llama"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(NO_UPDATE))
def test_a_kind_that_no_gain_scales_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": kind}))
    save_file({"a": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(AdapterError, match=re.escape(f"peft_type is {kind}: {NO_UPDATE[kind]}")):
        read_adapter(tmp_path, opened("llama"))


def test_a_tuner_with_a_tensor_too_many_or_too_few_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "llama", config("LOHA", MAPS))
    tensors = load_file(tmp_path / WEIGHTS)
    first = min(tensors)
    save_file({k: t for k, t in tensors.items() if k != first}, tmp_path / WEIGHTS)
    with pytest.raises(AdapterError, match="1 tensors of this LOHA adapter are missing"):
        read_adapter(tmp_path, opened("llama"))
    save_file({**tensors, first.replace("layers.0", "layers.9"): tensors[first].clone()}, tmp_path / WEIGHTS)
    with pytest.raises(AdapterError, match=r"1 tensors of this LOHA adapter have no place.*layers\.9"):
        read_adapter(tmp_path, opened("llama"))


@torch.no_grad()
def last_logits_behind(folder: Path, family: str) -> torch.Tensor:
    """Logits of the last token of IDS behind a folder's trained positions."""
    subject = opened(family)
    prefixes = PeftFolder(subject, folder).encode([Document("alpha", ("a",), ("p",))] * 2)
    batch = Batch(IDS, torch.ones_like(IDS), torch.full((2,), IDS.shape[1] - 1), torch.zeros(2, dtype=torch.long))
    together = batched(subject, prefixes, [IDS.shape[1]] * 2)
    return subject.logits(final_states(subject, batch, together, [0, 1]))


@pytest.mark.parametrize("family", ["cohere2", "gpt_oss"])
def test_more_trained_positions_than_a_sliding_window_holds_equal_pefts_own_forward(
    family: str, tmp_path: Path
) -> None:
    """The window is of 8 positions, at every layer or at some."""
    saved(tmp_path, family, config("PROMPT_TUNING", {"num_virtual_tokens": 12, "task_type": "CAUSAL_LM"}), size=0.3)
    wanted, base = pefts(tmp_path, family)[:, -1], opened(family).model(input_ids=IDS).logits[:, -1]
    assert (wanted - base).abs().max() > 0.1
    assert (last_logits_behind(tmp_path, family) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["falcon_h1", "bamba"])
def test_trained_positions_on_a_model_with_a_recurrent_state_are_refused(family: str, tmp_path: Path) -> None:
    """Keys and values alone, without the state that the positions left, gave other logits than PEFT."""
    saved(tmp_path, family, config("PROMPT_TUNING", {"num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}))
    with pytest.raises(AdapterError, match=f"{family} keeps a recurrent state beside keys and values"):
        last_logits_behind(tmp_path, family)


@pytest.mark.parametrize("kind", sorted(POSITIONS))
def test_trained_positions_equal_pefts_own_forward(kind: str, tmp_path: Path) -> None:
    settings = {"num_virtual_tokens": 3, "task_type": "CAUSAL_LM", **POSITIONS[kind]}
    if kind == "CPT":
        settings.pop("num_virtual_tokens")
    saved(tmp_path, "llama", config(kind, settings))
    subject, document = opened("llama"), Document("alpha", ("a",), ("p",))
    source = PeftFolder(subject, tmp_path)
    assert not source.static
    (prefix,) = source.encode([document])
    assert isinstance(prefix, Prefix)
    assert prefix.positions == 3
    last = torch.full((2,), IDS.shape[1] - 1)
    batch = Batch(IDS, torch.ones_like(IDS), last, torch.zeros(2, dtype=torch.long))
    together = batched(subject, [prefix] * 2, [IDS.shape[1]] * 2)
    assert isinstance(together, RuntimeBatch)
    got = subject.logits(final_states(subject, batch, together, [0, 1]))
    wanted = pefts(tmp_path, "llama")[:, -1]
    assert (got - wanted).abs().max() < 1e-4
    assert (subject.model(input_ids=IDS).logits[:, -1] - wanted).abs().max() > 0.1


def test_trained_positions_of_another_model_are_refused(tmp_path: Path) -> None:
    subject, document = opened("llama"), Document("alpha", ("a",), ("p",))
    for kind, message in (
        ("PROMPT_TUNING", "have width 7, this model 32"),
        ("PREFIX_TUNING", "hold 7 numbers, this model's"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps({"peft_type": kind}))
        save_file({"prompt_embeddings": torch.zeros(3, 7)}, tmp_path / WEIGHTS)
        with pytest.raises(AdapterError, match=message):
            PeftFolder(subject, tmp_path).encode([document])
