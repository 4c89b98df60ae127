"""Models that cannot be audited, and what a subject's fingerprint depends on."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
)

from override_gap.margins.items.item import Document, ItemError
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import SubjectError
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.layers import attribution_gap, read_layers
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.constant_tensors import is_constant
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import wrap
from tests.conftest import conflict, random_adapter, tiny
from tests.families import GROUPED, build, down, words


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


def test_a_folder_that_holds_an_adapter_too_is_not_opened_as_another_model(folder: Path) -> None:
    """transformers would open the base that adapter_config.json names, with the adapter in it, and not this model."""
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "other"}))
    settings = r"holds the settings of an adapter \(adapter_config.json\) beside config.json"
    with pytest.raises(SubjectError, match=settings):
        open_subject(str(folder), device="cpu")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(SubjectError, match=settings):
        open_subject(str(folder), device="cpu")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).unlink()
    assert open_subject(str(folder), device="cpu").n_layers


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


def with_buffers(folder: Path, buffers: dict[str, torch.Tensor]) -> None:
    rewrite(folder, lambda w: {**w, **buffers})


def saved(family: str, folder: Path):
    model, tokenizer = build(family)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


TRIANGLE = torch.ones(64, 64, dtype=torch.bool).tril()[None, None]
WINDOW = TRIANGLE & ~torch.ones(64, 64, dtype=torch.bool).tril(-16)


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("transformer.h.{}.attn.bias", TRIANGLE),
        ("transformer.h.{}.attn.bias", TRIANGLE.to(torch.uint8)),
        ("transformer.h.{}.attn.bias", WINDOW),
        ("transformer.h.{}.attn.bias", torch.zeros(64, 64).masked_fill(~TRIANGLE[0, 0], -1e4)),
        ("transformer.h.{}.attn.masked_bias", torch.tensor(-1e9)),
        ("transformer.h.{}.attn.masked_bias", torch.tensor([-1e4])),
        ("transformer.h.{}.attn.rotary_emb.inv_freq", 10000.0 ** -(torch.arange(0, 8, 2) / 8)),
        ("transformer.h.{}.attn.position_ids", torch.arange(64)[None]),
    ],
)
def test_constants_of_old_checkpoints_are_no_weights(tmp_path: Path, key: str, tensor: torch.Tensor) -> None:
    model = saved("gpt2", tmp_path)
    with_buffers(tmp_path, {key.format(layer): tensor.clone() for layer in range(3)})
    opened = open_subject(str(tmp_path), device="cpu", dtype="float32")
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        assert torch.allclose(opened.model(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("transformer.h.1.attn.masked_bias", torch.ones(32)),  # no scalar
        ("transformer.h.1.attn.c_attn.lora_A", torch.ones(4, 32)),
        ("v_head.summary.bias", torch.ones(1)),
        ("transformer.h.1.attn.rotary_emb.inv_freq", torch.tensor([0.1, 1.0, 0.2, 0.3])),  # no falling series
        ("transformer.h.1.attn.position_ids", torch.zeros(64, dtype=torch.long)),
        ("transformer.h.1.attn.k_scale", torch.ones(1)),
        ("transformer.h.3.mlp.c_fc.bias", torch.ones(48)),  # a layer that the configuration does not have
    ],
)
def test_weights_that_the_model_has_no_place_for_are_refused_by_name(
    tmp_path: Path, key: str, tensor: torch.Tensor
) -> None:
    saved("gpt2", tmp_path)
    with_buffers(tmp_path, {key: tensor})
    with pytest.raises(SubjectError, match=f"1 unexpected weights.*{key}"):
        open_subject(str(tmp_path), device="cpu")


@pytest.mark.parametrize("tensor", [torch.randn(64, 64), TRIANGLE[0, 0].T, torch.ones(1) * 3])
def test_what_is_named_as_a_mask_and_is_none_is_a_weight(tensor: torch.Tensor) -> None:
    model, _ = build("qwen2")
    key = "model.layers.0.self_attn.bias"
    assert not is_constant(model, key, tensor)
    assert is_constant(model, key, TRIANGLE[0, 0])


def test_a_trunk_saved_alone_is_whole_where_the_embedding_is_tied(tmp_path: Path) -> None:
    """As AutoModel saves it: the class of the trunk in the configuration, no unembedding in the file."""
    for tied in (True, False):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**GROUPED, tie_word_embeddings=tied)).eval()
        model.model.save_pretrained(tmp_path / str(tied))
        words().save_pretrained(tmp_path / str(tied))
        assert json.loads((tmp_path / str(tied) / "config.json").read_text())["architectures"] == ["LlamaModel"]
        if tied:
            opened = open_subject(str(tmp_path / "True"), device="cpu")
            ids = torch.tensor([[3, 4, 5, 6]])
            with torch.no_grad():
                assert torch.allclose(opened.model(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5)
        else:
            with pytest.raises(SubjectError, match=r"1 missing weights \(lm_head.weight first\)"):
                open_subject(str(tmp_path / "False"), device="cpu")


def test_weights_in_a_pickle_alone_are_refused_with_what_to_do(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SubjectError, match=r"pytorch_model.bin, a pickle.*save_pretrained"):
        open_subject(str(folder), device="cpu")


def test_an_embedding_of_another_size_than_configured_is_refused_with_both_shapes(folder: Path) -> None:
    rewrite(folder, lambda w: {**w, "lm_head.weight": torch.zeros(66, 32)})
    with pytest.raises(
        SubjectError, match=r"lm_head.weight of shape \[66, 32\] where the configuration needs \[64, 32\]"
    ):
        open_subject(str(folder), device="cpu")


def test_shards_are_read_and_one_that_is_missing_is_named(tmp_path: Path) -> None:
    model, tokenizer = build("llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        logits = open_subject(str(tmp_path), device="cpu").model(input_ids=ids).logits
        assert torch.allclose(logits, model(input_ids=ids).logits, atol=1e-5)
    shards[1].unlink()
    with pytest.raises(SubjectError, match=shards[1].name):
        open_subject(str(tmp_path), device="cpu")


def test_a_map_behind_the_last_layer_leaves_margins_readable_and_layers_refused(rng: torch.Generator) -> None:
    """OPT-350m: no final norm, and a projection from the stream's width to the embedding's."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    plain = OPTForCausalLM(
        OPTConfig(
            **sizes, word_embed_proj_dim=16, do_layer_norm_before=False, pad_token_id=0, max_position_embeddings=64
        )
    ).eval()
    plain.config.architectures = ["OPTForCausalLM"]
    subject, item = wrap(copy.deepcopy(plain), words(), "opt-350m"), conflict(0)
    assert (subject.d_model, subject.norm) == (32, None)
    assert [row["probe"] for row in subject.unread] == ["layers"]
    place = locate(subject, item)
    prior = read_prior(subject, [item], [place])
    adapter = random_adapter(subject, rng, ("fc1", "fc2"))
    state = read_adapted(subject, prior, stack(subject, [adapter]), torch.ones(1, 3))
    with torch.no_grad():
        for path, update in adapter.updates.items():
            plain.get_submodule(path).weight.add_(update.dense())
        logits = plain(input_ids=torch.tensor([place.fed])).logits[0, place.at]
    assert state.logits is not None
    assert torch.allclose(state.logits[0], logits, atol=1e-4)


def test_a_vision_language_model_is_measured_on_text(tmp_path: Path) -> None:
    """Its language model's maps are fitted and not its vision tower's; logits are those of the whole model without an image."""
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Mistral3Config(
        text_config={"model_type": "mistral", "head_dim": 8, **GROUPED},
        vision_config={"model_type": "pixtral", **vision, "image_size": 28, "patch_size": 14},
        image_token_index=60,
    )
    plain = Mistral3ForConditionalGeneration(config).eval()
    plain.save_pretrained(tmp_path)
    words().save_pretrained(tmp_path)
    subject, items = open_subject(str(tmp_path), device="cpu"), [conflict(0), conflict(1, "alpha beta")]
    adapters = FittedAdapters(subject, steps=2, lr=0.1).encode([Document("alpha beta red ."), Document("mu nu blue .")])
    paths = [f"model.language_model.layers.{layer}.mlp.down_proj" for layer in range(3)]
    assert all(list(adapter.updates) == paths for adapter in adapters)
    places = [locate(subject, item) for item in items]
    prior = read_prior(subject, items, places, layers=True)
    state = read_adapted(subject, prior, stack(subject, adapters), torch.ones(2, 3), layers=True)
    assert state.logits is not None
    for n, (place, adapter) in enumerate(zip(places, adapters, strict=True)):
        edited = copy.deepcopy(plain)
        with torch.no_grad():
            for path, update in adapter.updates.items():
                edited.get_submodule(path).weight.add_(update.dense())
            logits = edited(input_ids=torch.tensor([place.fed[: place.at + 1]]), use_cache=False).logits[0, -1]
        assert torch.allclose(state.logits[n], logits, atol=2e-5)
        assert (state.logits[n] - prior.logits[n]).abs().max() > 1e-3
    gaps = attribution_gap(subject, prior, state, read_layers(subject, prior, state))
    assert gaps.max() < 1e-4
