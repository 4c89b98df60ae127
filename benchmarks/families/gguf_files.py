"""Tiny GGUF files of every family that transformers reads, written as llama.cpp's converter writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import pre_tokenizers

from benchmarks.families.configs import build

#: A byte-level vocabulary: three special tokens, every byte, and one merge.
TOKENS = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "aa"]
#: GGUF's names of the settings, and those of a configuration.
SETTINGS = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "attention.sliding_window": "sliding_window",
    "shortconv.l_cache": "conv_L_cache",
    "ssm.conv_kernel": "conv_kernel",
    "ssm.state_size": "state_size",
    "ssm.time_step_rank": "time_step_rank",
    "expert_feed_forward_length": "moe_intermediate_size",
}
FLOATS = {"attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon")}
FLOATS["attention.layer_norm_epsilon"] = ("layer_norm_epsilon", "norm_epsilon", "layer_norm_eps")
#: The family, and settings that transformers does not read from GGUF: it takes its own defaults, those of the real models.
GGUF_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
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


def model_of(family: str, **further: Any) -> Any:
    """A tiny random model that a GGUF file of this family can hold."""
    model_type, settings = GGUF_FAMILIES[family]
    return build(model_type, **{"vocab_size": len(TOKENS), **settings, **further})


def write_family(model: Any, family: str, folder: Path, **extra: Any) -> str:
    """Write a model of a family into a folder, with what this family's files hold besides; the path."""
    if family == "mistral":  # llama.cpp has no family of this name: it is stored as a Llama
        return str(write_gguf(model, "llama", folder / "mistral.gguf", extra, name="Mistral 7B"))
    if family == "lfm2":  # heads of keys by layer, 0 where a layer is a convolution
        extra["attention.head_count_kv"] = [0, 2, 0]
    return str(write_gguf(model, family, folder / f"{family}.gguf", extra))


def write_gguf(
    model: Any,
    architecture: str,
    path: Path,
    extra: Mapping[str, Any] | None = None,
    *,
    tensors: Mapping[str, Any] | None = None,
    name: str = "tiny",
) -> Path:
    """Write a model's weights in float32; `extra` are further metadata, without the architecture's prefix."""
    config, writer = model.config, gguf.GGUFWriter(str(path), architecture)
    writer.add_name(name)
    for key, setting in SETTINGS.items():
        value = getattr(config, setting, None)
        if isinstance(value, int) and not isinstance(value, bool):
            writer.add_uint32(f"{architecture}.{key}", value)
    for key, names in FLOATS.items():
        value = next((v for setting in names if isinstance(v := getattr(config, setting, None), float)), None)
        if value is not None:
            writer.add_float32(f"{architecture}.{key}", value)
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)
    if isinstance(rope.get("rope_theta"), (int, float)):
        writer.add_float32(f"{architecture}.rope.freq_base", float(rope["rope_theta"]))
    head = getattr(config, "head_dim", None) or (
        config.hidden_size // max(1, getattr(config, "num_attention_heads", 1) or 1)
    )
    writer.add_uint32(f"{architecture}.rope.dimension_count", head)
    writer.add_uint32(f"{architecture}.attention.key_length", head)
    for key, value in (extra or {}).items():
        add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32, list: writer.add_array}
        if f"{architecture}.{key}" in writer.kv_data[0]:
            del writer.kv_data[0][f"{architecture}.{key}"]
        add[type(value)](f"{architecture}.{key}", value)
    _write_tokenizer(writer, config.vocab_size)
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for stored, array in (tensors or {}).items():
        writer.add_tensor(stored, array)
    for parameter, weight in model.state_dict().items():
        if parameter == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for stored, array in _stored(architecture, parameter, weight.float().numpy(), names, config):
            writer.add_tensor(stored, np.ascontiguousarray(array, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_tokenizer(writer: Any, size: int) -> None:
    tokens = [*TOKENS, *(f"<unused{n}>" for n in range(size - len(TOKENS)))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (size - 3)])
    writer.add_token_scores([0.0] * size)
    writer.add_token_merges(["a a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _stored(architecture: str, name: str, w: Any, names: Any, config: Any) -> list[tuple[str, Any]]:
    """One parameter under GGUF's names, in GGUF's layout."""
    if name.endswith("mlp.experts.gate_up_proj"):
        block, (gate, up) = name.split(".")[2], np.split(w, 2, axis=1)
        return [(f"blk.{block}.ffn_gate_exps.weight", gate), (f"blk.{block}.ffn_up_exps.weight", up)]
    if name.endswith("e_score_correction_bias"):
        return [(f"blk.{name.split('.')[2]}.exp_probs_b.bias", w)]
    base, _, suffix = name.rpartition(".")
    if suffix not in ("weight", "bias"):
        base, suffix = name, ""
    found = names.get_name(base) or names.get_name(base.removeprefix("transformer."))
    assert found, name
    if name.endswith("experts.down_proj"):
        suffix = "weight"
    stored = f"{found}.{suffix}" if suffix else found
    if architecture == "llama" and (".attn_q." in stored or ".attn_k." in stored):
        heads = config.num_attention_heads if ".attn_q." in stored else config.num_key_value_heads
        w = w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)
    if architecture in ("gemma2", "gemma3", "nemotron") and stored.endswith("norm.weight"):
        w = w + 1
    if architecture == "gpt2" and w.ndim == 2 and any(part in stored for part in ("attn_qkv", "ffn_", "attn_output")):
        w = w.T
    if architecture == "bloom" and "attn_qkv" in stored:
        heads = config.n_head
        w = w.reshape(heads, 3, -1, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)
    if stored.endswith("ssm_a"):
        w = -np.exp(w)
    if stored.endswith(("ssm_conv1d.weight", "shortconv.conv.weight")):
        w = w[:, 0]
    if stored.endswith("ffn_gate_inp_shexp.weight"):
        w = w[0]
    return [(stored, w)]
