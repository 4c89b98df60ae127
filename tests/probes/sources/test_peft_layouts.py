"""Keys as PEFT and transformers mean them: older layouts, wrappers, experts, vision towers, embeddings stored unasked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.items.item import Document, Item
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources.peft_config import CONFIG
from override_gap.probes.sources.peft_folder import WEIGHTS, PeftFolder, read_adapter
from tests.probes.sources.peft_models import IDS, build, gap, opened, ours, pefts, renamed, saved

ITEM = Item("a", "p", "conflict", "alpha beta red", "alpha beta", "red", "blue")
TEXT = r".*language_model.*\.(q_proj|down_proj)"
NEW, OLD = "base_model.model.model.language_model.", "base_model.model.language_model.model."


def test_keys_of_a_vision_language_model_before_its_renaming_are_read_as_peft_reads_them(tmp_path: Path) -> None:
    saved(tmp_path, "vision", target_modules=TEXT)
    renamed(tmp_path, lambda key: key.replace(NEW, OLD))
    assert any(OLD in key for key in load_file(tmp_path / WEIGHTS))
    difference, adapter = gap(tmp_path, "vision")
    assert difference < 1e-4
    assert not adapter.left_out


def test_a_text_models_adapter_is_read_on_the_model_that_contains_it(tmp_path: Path) -> None:
    saved(tmp_path, "vision", target_modules=TEXT)
    subject = opened("vision")
    wanted = ours(subject, read_adapter(tmp_path, subject))
    renamed(tmp_path, lambda key: key.replace(NEW, "base_model.model.model."))
    assert torch.equal(ours(subject, read_adapter(tmp_path, subject)), wanted)


@pytest.mark.parametrize("was", ["model.layers", "language_model.model.layers"])
def test_patterns_hold_under_the_paths_that_an_adapter_was_trained_with(was: str, tmp_path: Path) -> None:
    """Of a text model alone, and of transformers < 4.52: a pattern of a whole path is that of the place it was trained at."""
    now = "model.language_model.layers"
    patterns = {f"{now}.0.self_attn.q_proj": 2}, {f"{now}.0.self_attn.q_proj": 64}
    targets = r".*language_model.*\.(q_proj|down_proj)"
    saved(tmp_path, "vision", target_modules=targets, rank_pattern=patterns[0], alpha_pattern=patterns[1])
    wanted, subject = pefts(tmp_path, "vision"), opened("vision")
    renamed(tmp_path, lambda key: key.replace(now, was))
    file = tmp_path / CONFIG
    file.write_text(file.read_text().replace(f"{now}.0", f"{was}.0"))
    assert (ours(subject, read_adapter(tmp_path, subject)) - wanted).abs().max() < 1e-5


def test_maps_of_the_vision_tower_are_left_out_and_named(tmp_path: Path) -> None:
    saved(tmp_path, "vision", target_modules=r".*\.(q_proj|down_proj|fc2)")
    difference, adapter = gap(tmp_path, "vision")
    assert difference < 1e-4
    assert len(adapter.left_out) == 5
    assert all("vision_tower" in place and "text never reaches" in place for place in adapter.left_out)
    assert all(layer_of(path) is not None for path in adapter.paths)
    checks = {
        c.name: c for c in check_adapters(opened("vision"), PeftFolder(opened("vision"), tmp_path), [ITEM]).checks
    }
    assert "5 parts of the adapters left out: model.vision_tower" in checks["fits"].says


def test_an_adapter_of_the_vision_tower_alone_is_refused_for_it(tmp_path: Path) -> None:
    saved(tmp_path, "vision", target_modules=r".*vision_tower.*\.q_proj")
    with pytest.raises(AdapterError, match=r"changes only what text never reaches: 2 places, model\.vision_tower"):
        read_adapter(tmp_path, opened("vision"))


def test_a_layer_of_another_tower_is_no_layer_of_the_language_model() -> None:
    for path in (
        "model.vision_tower.encoder.layers.0.mlp.fc1",
        "model.visual.blocks.3.attn.proj",
        "audio_tower.layers.1.fc1",
    ):
        assert layer_of(path) is None
    assert layer_of("model.language_model.layers.2.mlp.down_proj") == 2


EXPERTS: dict[str, list[str]] = {
    "mixtral": ["mlp.experts.down_proj", "mlp.experts.gate_up_proj", "mlp.gate.weight"],
    "gpt_oss": ["mlp.experts.down_proj", "mlp.experts.gate_up_proj", "mlp.router.weight"],
    "deepseek_v3": ["mlp.experts.down_proj", "mlp.gate.weight"],
    "granitemoe": ["block_sparse_moe.experts.gate_up_proj"],
}


@pytest.mark.parametrize("family", sorted(EXPERTS))
def test_factors_of_fused_experts_equal_pefts_own_forward(family: str, tmp_path: Path) -> None:
    target = "q_b_proj" if family == "deepseek_v3" else "q_proj"
    saved(tmp_path, family, target_modules=[target], target_parameters=EXPERTS[family])
    difference, adapter = gap(tmp_path, family)
    assert difference < 1e-4
    assert any(path.endswith(".down_proj.3") or path.endswith(".gate_up_proj.3") for path in adapter.paths)


@pytest.mark.parametrize("target", ["c_attn.weight", "attn.c_proj.weight"])
def test_a_targeted_weight_of_conv1d_is_read_as_it_is_stored(target: str, tmp_path: Path) -> None:
    """Conv1D stores [d_in, d_out]; the second is square, so that its shape does not tell."""
    saved(tmp_path, "gpt2", target_modules=[], target_parameters=[target])
    assert gap(tmp_path, "gpt2")[0] < 1e-5


@pytest.mark.parametrize(
    ("family", "settings"),
    [("llama", {"use_dora": True}), ("mixtral", {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]})],
)
def test_factors_in_bfloat16_are_multiplied_in_float32(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    saved(tmp_path, family, target_modules=["q_proj"], **settings)
    stored = {key: tensor.bfloat16() for key, tensor in load_file(tmp_path / WEIGHTS).items()}
    save_file(stored, tmp_path / WEIGHTS, metadata={"format": "pt"})
    assert gap(tmp_path, family)[0] < 1e-5


def test_examples_of_different_gain_have_experts_of_their_own(tmp_path: Path) -> None:
    subject = opened("mixtral")
    adapter = read_adapter(
        saved(tmp_path, "mixtral", target_modules=["q_proj"], target_parameters=EXPERTS["mixtral"]), subject
    )
    base, full = subject.model(input_ids=IDS).logits, ours(subject, adapter)
    mixed = ours(subject, adapter, (0.0, 1.0))
    assert (mixed[0] - base[0]).abs().max() < 1e-5
    assert (mixed[1] - full[1]).abs().max() < 1e-5
    assert (full[0] - base[0]).abs().max() > 0.05
    assert torch.equal(ours(subject, adapter, (0.0, 0.0)), base)
    weight = subject.model.get_parameter("model.layers.0.mlp.experts.down_proj")
    assert weight is subject.model.model.layers[0].mlp.experts.down_proj


LISTED = {
    "mixtral": ("block_sparse_moe.experts", "w1", "w3", "w2"),
    "qwen3_moe": ("mlp.experts", "gate_proj", "up_proj", "down_proj"),
    "qwen2_moe": ("mlp.experts", "gate_proj", "up_proj", "down_proj"),
    "olmoe": ("mlp.experts", "gate_proj", "up_proj", "down_proj"),
}


@pytest.mark.parametrize("family", sorted(LISTED))
def test_a_pair_per_expert_equals_weights_edited_by_hand(family: str, tmp_path: Path, rng: torch.Generator) -> None:
    """The layout of transformers 4, and the products added to the fused weights, gate above up."""
    folder, gate, up, down = LISTED[family]
    model, tensors = build(family), {}
    for n, block in enumerate(model.model.layers):
        fused, narrow = block.mlp.experts.gate_up_proj.data, block.mlp.experts.down_proj.data
        half = fused.shape[1] // 2
        for expert in range(4):
            shapes = {gate: (half, fused.shape[2]), up: (half, fused.shape[2]), down: narrow.shape[1:]}
            for name, (d_out, d_in) in shapes.items():
                key = f"base_model.model.model.layers.{n}.{folder}.{expert}.{name}.lora_"
                A, B = (torch.randn(4, d_in, generator=rng) * 0.2, torch.randn(d_out, 4, generator=rng) * 0.2)
                tensors |= {f"{key}A.weight": A, f"{key}B.weight": B}
                part = (
                    narrow[expert] if name == down else fused[expert, :half] if name == gate else fused[expert, half:]
                )
                part += 2 * B @ A
    save_file(tensors, tmp_path / WEIGHTS)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": [gate, up, down],
    }
    (tmp_path / CONFIG).write_text(json.dumps(config))
    subject = opened(family)
    got = ours(subject, read_adapter(tmp_path, subject))
    with torch.no_grad():
        assert (model(input_ids=IDS).logits - got).abs().max() < 1e-4
        assert (subject.model(input_ids=IDS).logits - got).abs().max() > 0.1


def test_experts_that_do_not_fit_are_refused_with_their_reason(tmp_path: Path) -> None:
    saved(tmp_path, "mixtral", target_modules=["q_proj"], target_parameters=["mlp.experts.down_proj"])
    config = json.loads((tmp_path / CONFIG).read_text())
    for change, message in (
        (
            {"rank_pattern": {"down_proj": 8}},
            r"target_parameters\) has rank 4 per expert, but the configuration says 8",
        ),
        ({"target_parameters": None}, "target_parameters names none of its parameters"),
        ({"target_parameters": ["experts.down_proj", "experts.gate_up_proj"]}, "names 2 of its parameters"),
        ({"use_dora": True}, "no lora_magnitude_vector|use_dora is not defined for experts"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps({**config, **change}))
        with pytest.raises(AdapterError, match=message):
            read_adapter(tmp_path, opened("mixtral"))


@pytest.mark.parametrize(
    "change",
    [
        lambda key: f"module.{key}",
        lambda key: f"_orig_mod.{key}",
        lambda key: key.replace("base_model.model.model.", "base_model.model._orig_mod.model."),
        lambda key: key.replace(".layers.0.", ".layers.0._checkpoint_wrapped_module."),
        lambda key: key.replace(".weight", ".default.weight"),
        lambda key: key.replace(".weight", ".my-adapter.weight"),
        lambda key: key.removeprefix("base_model.model."),
        lambda key: key.replace("base_model.model.model.", "base_model.model."),
    ],
)
def test_names_that_wrappers_put_into_keys_are_left_out(change: Any, tmp_path: Path) -> None:
    subject = opened("llama")
    plain = read_adapter(saved(tmp_path, "llama", target_modules=["q_proj", "down_proj"]), subject)
    adapted = PeftModel.from_pretrained(build("llama"), str(tmp_path)).eval()
    renamed(tmp_path, change)
    read = read_adapter(tmp_path, subject)
    assert read.hash() == plain.hash()
    # PEFT loads all of some of these files and not all of the others, which a note says
    loaded = PeftModel.from_pretrained(build("llama"), str(tmp_path)).eval()
    with torch.no_grad():
        same = torch.equal(loaded(input_ids=IDS).logits, adapted(input_ids=IDS).logits)
    notes = PeftFolder(subject, tmp_path).notes_on([Document("any")])
    assert [("loader loads nothing" in note) for note in notes] == ([] if same else [True])


def test_an_adapter_of_a_model_wrapped_twice_is_refused_since_peft_loads_nothing_from_it(tmp_path: Path) -> None:
    """PRAG saves the first document of a first run so: its own inference then runs the base."""
    base, once = build("llama"), build("llama")
    once = get_peft_model(once, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    once.save_pretrained(str(tmp_path / "start"))
    twice = PeftModel.from_pretrained(once, str(tmp_path / "start"), is_trainable=True)
    for name, weight in twice.named_parameters():
        if "lora_" in name:
            weight.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(name)))
    twice.save_pretrained(str(tmp_path / "twice"))
    loaded = PeftModel.from_pretrained(build("llama"), str(tmp_path / "twice"))
    with torch.no_grad():
        assert (twice.eval()(input_ids=IDS).logits - base(input_ids=IDS).logits).abs().max() > 0.01
        assert torch.equal(loaded.eval()(input_ids=IDS).logits, base(input_ids=IDS).logits)
    with pytest.raises(AdapterError, match="PEFT loads none of them"):
        read_adapter(tmp_path / "twice", opened("llama"))


def test_several_adapters_in_one_file_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, "llama", target_modules=["q_proj"])
    tensors = load_file(tmp_path / WEIGHTS)
    named = {key.replace(".weight", f".{name}.weight"): t.clone() for name in "ab" for key, t in tensors.items()}
    save_file(named, tmp_path / WEIGHTS)
    with pytest.raises(AdapterError, match=r"several adapters \(a, b\)"):
        read_adapter(tmp_path, opened("llama"))


def lora(model: Any, folder: Path, **settings: Any) -> None:
    peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            weight.data.normal_(0, 0.3)
    peft.save_pretrained(str(folder), **settings)


def whole(folder: Path) -> Adapter:
    return read_adapter(folder, opened("llama"))


def test_embeddings_stored_unasked_are_those_of_the_base(tmp_path: Path) -> None:
    lora(build("llama"), tmp_path / "plain")
    lora(build("llama"), tmp_path / "stored", save_embedding_layers=True)
    assert sum("layers" not in key for key in load_file(tmp_path / "stored" / WEIGHTS)) == 2
    assert whole(tmp_path / "stored").hash() == whole(tmp_path / "plain").hash()
    assert gap(tmp_path / "stored", "llama")[0] < 1e-4


@pytest.mark.parametrize(("size", "words"), [(67, "3 added rows"), (60, "4 missing rows")])
def test_rows_of_added_tokens_are_left_out_and_named(size: int, words: str, tmp_path: Path) -> None:
    model = build("llama")
    model.resize_token_embeddings(size, mean_resizing=False)
    lora(model, tmp_path, save_embedding_layers=True)
    adapter = whole(tmp_path)
    assert len(adapter.left_out) == 2
    assert all(words in note and "other rows equal this model's" in note for note in adapter.left_out)
    lora(build("llama"), tmp_path / "plain")
    assert adapter.hash() == whole(tmp_path / "plain").hash()


@pytest.mark.parametrize("size", [64, 65])
def test_trained_embeddings_are_refused_as_such(size: int, tmp_path: Path) -> None:
    model = build("llama")
    model.resize_token_embeddings(size, mean_resizing=False)
    model.get_input_embeddings().weight.data[5] += 0.5
    lora(model, tmp_path, save_embedding_layers=True)
    said = (
        "embed_tokens.weight is saved: it is in no layer"
        if size == 64
        else "1 of the 64 rows of both differ: .*trained"
    )
    with pytest.raises(AdapterError, match=said):
        whole(tmp_path)


def test_a_lora_of_the_embedding_is_refused_as_such(tmp_path: Path) -> None:
    saved(tmp_path, "llama", target_modules=["embed_tokens", "q_proj"])
    with pytest.raises(AdapterError, match=r"embed_tokens is an embedding with LoRA factors: it is in no layer"):
        read_adapter(tmp_path, opened("llama"))
