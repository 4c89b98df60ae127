"""Tiny configurations of the causal language models that the transformers library can build, by model type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers

VOCABULARY = 64
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEADS = {**SIZE, "head_dim": 8}
UNGROUPED = {**SIZE, "num_key_value_heads": 4}
ALL_HEADS = {name: value for name, value in SIZE.items() if name != "num_key_value_heads"}
OLD = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
MULTIPLIERS = {
    "residual_multiplier": 0.22,
    "logits_scaling": 4.0,
    "embedding_multiplier": 6.0,
    "attention_multiplier": 0.1,
}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
STATE_SPACE = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "state_size": 8, "eos_token_id": 2}
MAMBA_HEADS = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}

#: Model type -> the keyword arguments of its configuration.
FAMILIES: Mapping[str, dict[str, Any]] = {
    "afmoe": {**HEADS, **EXPERTS, "num_dense_layers": 1, "sliding_window": 8},
    "apertus": SIZE,
    "arcee": SIZE,
    "aria_text": {**SIZE, "moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
    "bamba": {**SIZE, **MAMBA_HEADS, "attn_layer_indices": [1]},
    "biogpt": ALL_HEADS,
    "bitnet": SIZE,
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 3, "n_head": 4, "eos_token_id": 2},
    "codegen": {**OLD, "rotary_dim": 4},
    "cohere": {**SIZE, "logit_scale": 0.25},
    "cohere2": {**SIZE, "logit_scale": 0.25, "sliding_window": 8},
    "ctrl": {"vocab_size": VOCABULARY, "n_embd": 32, "dff": 48, "n_layer": 3, "n_head": 4, "n_positions": 128},
    "cwm": HEADS,
    "dbrx": {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 3,
        "max_seq_len": 128,
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
    },
    "deepseek_v2": {**UNGROUPED, **ROUTED, **LATENT, "topk_method": "greedy"},
    "deepseek_v3": {**UNGROUPED, **ROUTED, **LATENT},
    "doge": SIZE,
    "dots1": {**SIZE, **ROUTED, "sliding_window": 8, "head_dim": 8, "n_shared_experts": 1},
    "ernie4_5": HEADS,
    "ernie4_5_moe": {
        **SIZE,
        "moe_num_experts": 4,
        "moe_k": 2,
        "moe_intermediate_size": 24,
        "moe_num_shared_experts": 1,
        "moe_layer_start_index": 1,
    },
    "exaone4": {**SIZE, "sliding_window": 8, "sliding_window_pattern": 4},
    "falcon": {k: v for k, v in ALL_HEADS.items() if k != "intermediate_size"},
    "falcon_h1": {
        **SIZE,
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_n_groups": 1,
        "mlp_multipliers": [0.5, 0.3],
        "lm_head_multiplier": 0.5,
    },
    "falcon_mamba": STATE_SPACE,
    "flex_olmo": {**SIZE, **EXPERTS},
    "gemma": HEADS,
    "gemma2": {**HEADS, "sliding_window": 8, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 5.0},
    "gemma3_text": {**HEADS, "sliding_window": 8},
    "gemma3n_text": {
        **HEADS,
        "num_hidden_layers": 5,
        "sliding_window": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention"] * 4 + ["full_attention"],
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0] * 5,
    },
    "glm": HEADS,
    "glm4": HEADS,
    "glm4_moe": {**HEADS, **ROUTED},
    "gpt2": {**OLD, "n_inner": 48},
    "gpt_bigcode": {**OLD, "n_inner": 48},
    "gpt_neo": {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_layers": 4,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 2]],
        "intermediate_size": 48,
        "max_position_embeddings": 128,
        "window_size": 4,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "gpt_neox": ALL_HEADS,
    "gpt_neox_japanese": {
        **{k: v for k, v in ALL_HEADS.items() if k != "intermediate_size"},
        "intermediate_multiple_size": 2,
    },
    "gpt_oss": {**HEADS, **LOCAL_EXPERTS, "sliding_window": 8},
    "gptj": {**OLD, "rotary_dim": 4},
    "granite": {**SIZE, **MULTIPLIERS},
    "granitemoe": {**SIZE, **LOCAL_EXPERTS, **MULTIPLIERS},
    "granitemoehybrid": {
        **SIZE,
        **MAMBA_HEADS,
        **MULTIPLIERS,
        "layer_types": ["mamba", "attention", "mamba"],
        "num_local_experts": 0,
        "shared_intermediate_size": 32,
    },
    "granitemoeshared": {**SIZE, **LOCAL_EXPERTS, **MULTIPLIERS, "shared_intermediate_size": 32},
    "helium": HEADS,
    "hunyuan_v1_dense": HEADS,
    "hunyuan_v1_moe": {**HEADS, "num_experts": 4, "moe_topk": [2, 2, 2], "moe_intermediate_size": [24, 24, 24]},
    "jais2": SIZE,
    "jamba": {**SIZE, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "use_mamba_kernels": False},
    "jetmoe": {
        **{k: v for k, v in SIZE.items() if k not in ("num_attention_heads", "num_key_value_heads")},
        "num_key_value_heads": 4,
        "kv_channels": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "lfm2": {**SIZE, "full_attn_idxs": [1]},
    "lfm2_moe": {**SIZE, **EXPERTS, "num_dense_layers": 1, "layer_types": ["conv", "full_attention", "conv"]},
    "llama": SIZE,
    "llama4_text": {
        **HEADS,
        **LOCAL_EXPERTS,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 48,
        "attention_chunk_size": 16,
    },
    "longcat_flash": {
        **{k: v for k, v in UNGROUPED.items() if k not in ("num_hidden_layers", "intermediate_size")},
        **LATENT,
        "num_layers": 2,
        "ffn_hidden_size": 48,
        "expert_ffn_hidden_size": 24,
        "n_routed_experts": 4,
        "zero_expert_num": 2,
        "moe_topk": 2,
        "head_dim": 4,
    },
    "mamba": STATE_SPACE,
    "mamba2": {**STATE_SPACE, "num_heads": 8, "head_dim": 8, "n_groups": 1, "expand": 2, "chunk_size": 8},
    "minimax": {
        **HEADS,
        **LOCAL_EXPERTS,
        "block_size": 8,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    },
    "minimax_m2": {**HEADS, **LOCAL_EXPERTS},
    "ministral": {**HEADS, "sliding_window": 8},
    "ministral3": HEADS,
    "mistral": {**SIZE, "sliding_window": 8},
    "mixtral": {**SIZE, "num_local_experts": 4},
    "modernbert-decoder": {**ALL_HEADS, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
    "mpt": {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 128},
    "nanochat": HEADS,
    "nemotron": SIZE,
    "nemotron_h": {
        **HEADS,
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
        "layers_block_type": ["mamba", "attention", "mlp"],
    },
    "olmo": SIZE,
    "olmo2": SIZE,
    "olmo3": {**SIZE, "sliding_window": 8},
    "olmo_hybrid": {**SIZE, **DELTA, "linear_num_key_heads": 4},
    "olmoe": {**SIZE, "num_experts": 4, "num_experts_per_tok": 2},
    "openai-gpt": {k: v for k, v in OLD.items() if not k.endswith("token_id")},
    "opt": {
        **{k: v for k, v in ALL_HEADS.items() if k != "intermediate_size"},
        "ffn_dim": 48,
        "word_embed_proj_dim": 32,
    },
    "persimmon": ALL_HEADS,
    "phi": UNGROUPED,
    "phi3": SIZE,
    "phimoe": {**SIZE, "num_local_experts": 4},
    "qwen2": SIZE,
    "qwen2_moe": {**SIZE, **EXPERTS, "shared_expert_intermediate_size": 24},
    "qwen3": HEADS,
    "qwen3_5_text": {**HEADS, **DELTA},
    "qwen3_moe": {**HEADS, **EXPERTS},
    "qwen3_next": {**HEADS, **DELTA, **EXPERTS, "shared_expert_intermediate_size": 16},
    "recurrent_gemma": {
        **{k: v for k, v in SIZE.items() if k != "max_position_embeddings"},
        "attention_window_size": 8,
        "lru_width": 32,
    },
    "rwkv": {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "context_length": 128,
        "eos_token_id": 2,
    },
    "seed_oss": HEADS,
    "smollm3": SIZE,
    "stablelm": SIZE,
    "starcoder2": SIZE,
    "vaultgemma": {**HEADS, "sliding_window": 8},
    "xglm": {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "ffn_dim": 48,
        "num_layers": 3,
        "attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "xlstm": {"vocab_size": VOCABULARY, "hidden_size": 128, "num_hidden_layers": 3, "num_heads": 4, "eos_token_id": 2},
    "youtu": {**UNGROUPED, **LATENT},
    "zamba2": {
        **SIZE,
        "mamba_d_state": 8,
        "n_mamba_heads": 8,
        "mamba_ngroups": 1,
        "chunk_size": 8,
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "num_mem_blocks": 1,
        "use_shared_attention_adapter": False,
    },
}


def build(model_type: str, seed: int = 0, **settings: Any) -> Any:
    """A random model of a family, in float32, its weights large enough that every norm, bias, cap and multiplier matters.

    `settings` replace those of its configuration.
    """
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(model_type, **{**FAMILIES[model_type], **settings})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.config.architectures = [type(model).__name__]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * (0.15 if weight.ndim > 1 else 0.3))
    return model
