"""Folders saved by PEFT itself, in every scale convention, against PEFT's own effective weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import Dense, LowRank
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.peft_config import CONFIG
from override_gap.probes.sources.peft_folder import WEIGHTS, PeftFolder, read_adapter
from tests.conftest import tiny
from tests.families import build, many

CONVENTIONS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "lora_alpha": 12},
    "rslora": {"r": 4, "lora_alpha": 12, "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 12,
        "rank_pattern": {"layers.1.mlp.down_proj": 2},
        "alpha_pattern": {"q_proj": 5, "layers.1.mlp.down_proj": 7},
    },
    "rslora-patterns": {"r": 4, "lora_alpha": 12, "use_rslora": True, "rank_pattern": {"v_proj": 3}},
}


def save(tmp_path: Path, family: str = "llama", **settings: Any):
    model, _ = build(family)
    peft = get_peft_model(model, LoraConfig(target_modules=[m.rsplit(".", 1)[-1] for m in many(family)], **settings))
    torch.manual_seed(1)
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    peft.save_pretrained(tmp_path)
    return peft


@pytest.mark.parametrize("convention", sorted(CONVENTIONS))
def test_updates_equal_pefts_delta_weight(convention: str, tmp_path: Path) -> None:
    peft = save(tmp_path, **CONVENTIONS[convention])
    adapter = read_adapter(tmp_path, tiny("llama"))
    layers = {n.removeprefix("base_model.model."): m for n, m in peft.named_modules() if hasattr(m, "get_delta_weight")}
    assert set(adapter.updates) == set(layers)
    for path, module in layers.items():
        assert torch.allclose(adapter.updates[path].dense(), module.get_delta_weight("default"), atol=1e-6)


def test_conv1d_weights_are_read_in_the_models_orientation(tmp_path: Path) -> None:
    peft = save(tmp_path, "gpt2", r=4, lora_alpha=12)
    adapter = read_adapter(tmp_path, tiny("gpt2"))
    for name, module in peft.named_modules():
        if hasattr(module, "get_delta_weight"):
            ours = adapter.updates[name.removeprefix("base_model.model.")].dense()
            assert torch.allclose(ours.T, module.get_delta_weight("default"), atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lora_alpha", None, "no lora_alpha"),
        ("peft_type", None, "need a kind of PEFT"),
        ("bias", "some", "none, all or lora_only"),
        ("modules_to_save", ["lm_head"], "modules_to_save names 'lm_head'"),
        ("modules_to_save", "lm_head", "must be a list"),
        ("trainable_token_indices", [3], "trainable_token_indices"),
        ("r", 8, "rank 4, but"),
    ],
)
def test_what_is_not_plain_lora_is_refused_with_its_reason(key: str, value: Any, message: str, tmp_path: Path) -> None:
    save(tmp_path, r=4, lora_alpha=12)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, key: value}))
    with pytest.raises(AdapterError, match=message):
        read_adapter(tmp_path, tiny("llama"))


def test_lora_bias_equals_pefts_own_forward(tmp_path: Path) -> None:
    peft = save(tmp_path, r=4, lora_alpha=12, lora_bias=True)
    subject = tiny("llama")
    adapter = read_adapter(tmp_path, subject)
    assert adapter.updates["model.layers.1.mlp.down_proj.bias"].frobenius() > 0
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        wanted = peft.eval()(input_ids=ids).logits
        with attached(subject, stack(subject, [adapter]), torch.ones(1, subject.n_layers)):
            assert (subject.model(input_ids=ids).logits - wanted).abs().max() < 1e-4


def trained(peft: Any, words: tuple[str, ...], rng: torch.Generator) -> Any:
    """The model after random changes of every parameter that PEFT trains beside LoRA factors and whose name holds a word."""
    moved = 0
    for name, weight in peft.named_parameters():
        if weight.requires_grad and "lora_" not in name and any(word in name for word in words):
            weight.data.add_(torch.randn(weight.shape, generator=rng) * 0.3)
            moved += 1
    assert moved
    return peft


@pytest.mark.parametrize(
    ("family", "settings", "words"),
    [
        ("llama", {"modules_to_save": ["up_proj"], "target_modules": ["down_proj"]}, ("up_proj",)),
        ("llama", {"modules_to_save": ["mlp"], "target_modules": ["q_proj"]}, ("mlp",)),
        ("llama", {"modules_to_save": ["input_layernorm", "lm_head"], "target_modules": ["q_proj"]}, ("layernorm",)),
        ("gpt2", {"modules_to_save": ["c_fc"], "target_modules": ["c_proj"]}, ("c_fc",)),
        ("gpt2", {"modules_to_save": ["ln_1"], "target_modules": ["c_proj"]}, ("ln_1",)),
        ("gpt2", {"bias": "lora_only", "target_modules": ["c_proj", "c_attn"]}, ("bias",)),
        ("gpt2", {"bias": "all", "target_modules": ["c_proj"]}, (".h.",)),
        ("gpt2", {"bias": "lora_only", "lora_bias": True, "target_modules": ["c_proj"]}, ("bias",)),
        ("gpt2", {"bias": "all", "modules_to_save": ["c_fc"], "target_modules": ["c_proj"]}, ("c_fc.modules",)),
        ("qwen2", {"bias": "all", "target_modules": ["q_proj", "down_proj"]}, ("bias",)),
        ("qwen2", {"bias": "lora_only", "use_dora": True, "target_modules": ["q_proj"]}, ("bias",)),
    ],
)
def test_saved_modules_and_biases_equal_pefts_own_forward(
    family: str, settings: dict[str, Any], words: tuple[str, ...], tmp_path: Path, rng: torch.Generator
) -> None:
    """PEFT's forward after it has read the folder back, so that what it stores is what is compared."""
    model, _ = build(family)
    peft = trained(get_peft_model(model, LoraConfig(r=4, lora_alpha=12, **settings)), words, rng)
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.2)
    peft.save_pretrained(tmp_path)
    subject, ids = tiny(family), torch.tensor([[3, 4, 5, 6]])
    adapter = read_adapter(tmp_path, subject)
    with torch.no_grad():
        wanted = PeftModel.from_pretrained(build(family)[0], tmp_path).eval()(input_ids=ids).logits
        assert (wanted - peft.eval()(input_ids=ids).logits).abs().max() < 1e-5
        kind = Dense if "use_dora" in settings else LowRank
        low = Adapter("low", {p: u for p, u in adapter.updates.items() if isinstance(u, kind)})
        for candidate, least, most in ((adapter, 0.0, 1e-4), (low, 1e-3, 1e9)):
            with attached(subject, stack(subject, [candidate]), torch.ones(1, subject.n_layers)):
                gap = (subject.model(input_ids=ids).logits - wanted).abs().max()
            assert least <= gap < most


@pytest.mark.parametrize(
    ("family", "settings", "words", "message"),
    [
        ("llama", {"modules_to_save": ["lm_head"]}, ("lm_head",), "lm_head.weight is saved: it is in no layer"),
        (
            "llama",
            {"modules_to_save": ["embed_tokens"]},
            ("embed_tokens",),
            "embed_tokens.weight is saved: it is in no layer",
        ),
        ("llama", {"modules_to_save": ["norm"]}, (".norm",), "norm.weight is saved: it is in no layer"),
        ("gpt2", {"bias": "all"}, ("ln_f",), "ln_f.bias is saved: it is in no layer"),
    ],
)
def test_saved_parameters_that_no_gain_reaches_are_refused(
    family: str, settings: dict[str, Any], words: tuple[str, ...], message: str, tmp_path: Path, rng: torch.Generator
) -> None:
    model, _ = build(family)
    target = "c_proj" if family == "gpt2" else "q_proj"
    trained(get_peft_model(model, LoraConfig(r=4, target_modules=[target], **settings)), words, rng).save_pretrained(
        tmp_path
    )
    with pytest.raises(AdapterError, match=message):
        read_adapter(tmp_path, tiny(family))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_dora_is_the_difference_of_its_effective_weights(family: str, tmp_path: Path) -> None:
    peft = save(tmp_path, family, r=4, lora_alpha=12, use_dora=True)
    subject = tiny(family)
    adapter = read_adapter(tmp_path, subject)
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        wanted = peft.eval()(input_ids=ids).logits
        merged = peft.merge_and_unload()(input_ids=ids).logits
        with attached(subject, stack(subject, [adapter]), torch.ones(1, subject.n_layers)):
            ours = subject.model(input_ids=ids).logits
    assert (wanted - subject.model(input_ids=ids).logits).abs().max() > 0.1
    assert (ours - wanted).abs().max() < 1e-4
    assert (merged - wanted).abs().max() < 1e-4


def test_dora_without_its_magnitudes_is_an_error(tmp_path: Path) -> None:
    save(tmp_path, r=4, lora_alpha=12)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(AdapterError, match="no lora_magnitude_vector"):
        read_adapter(tmp_path, tiny("llama"))


def test_damaged_weights_are_an_error(tmp_path: Path) -> None:
    save(tmp_path, r=4, lora_alpha=12)
    file = tmp_path / WEIGHTS
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(AdapterError, match="damaged"):
        read_adapter(tmp_path, tiny("llama"))


def test_a_folder_of_folders_is_keyed_by_document_id_or_point(tmp_path: Path) -> None:
    subject = tiny("llama")
    document = Document("alpha beta", ("c1",), ("p1",))
    for name in (document.key, "c1", "p1"):
        save(tmp_path / name / name, r=4, lora_alpha=12)
        assert PeftFolder(subject, tmp_path / name).encode([document])[0].name == name
    with pytest.raises(AdapterError, match="nothing for document"):
        PeftFolder(subject, tmp_path / "c1").encode([Document("other", ("../c1",), ("p9",))])


def test_two_folders_that_match_equally_are_an_error_and_a_better_name_wins(tmp_path: Path) -> None:
    subject = tiny("llama")
    document = Document("alpha beta", ("c1", "c2"), ("p1", "p2"))

    def encoded() -> str:
        return PeftFolder(subject, tmp_path).encode([document])[0].name

    for n, name in enumerate(("p1", "p2")):
        save(tmp_path / name, r=4, lora_alpha=12 + n)
    with pytest.raises(AdapterError, match="matches both p1 and p2, which differ"):
        encoded()
    for n, name in enumerate(("c2", "c1")):
        save(tmp_path / name, r=4, lora_alpha=12 + n)
        if name == "c2":
            assert encoded() == "c2"
    with pytest.raises(AdapterError, match="matches both c1 and c2, which differ"):
        encoded()
    save(tmp_path / document.key, r=4, lora_alpha=12)
    assert encoded() == document.key
