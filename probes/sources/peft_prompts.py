"""PEFT's prompt learning (prompt and prefix tuning, P-tuning, CPT, cartridges): keys and values before the question."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from override_gap.margins.runtime import Prefix
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.model import Subject

INPUTS = ("PROMPT_TUNING", "P_TUNING", "CPT")
"""Kinds that store embeddings of trained positions, which the model reads before the question's."""
CACHES = ("PREFIX_TUNING", "CARTRIDGE")
"""Kinds that store the keys and values of every layer."""
PROMPTS = (*INPUTS, *CACHES)


def read_prompt(folder: Path, config: Mapping[str, Any], subject: Subject, tensors: Mapping[str, Tensor]) -> Prefix:
    """The keys and values of trained positions, which the question then follows.

    Attention is causal, so what the model computes for trained embeddings does not depend on the question: its cache after
    reading them is the prefix. Raises AdapterError where the stored tensor is not of this model's shape.
    """
    kind = str(config["peft_type"]).upper()
    stored = tensors.get("prompt_embeddings")
    if set(tensors) != {"prompt_embeddings"} or stored is None or stored.ndim != 2 or not stored.is_floating_point():
        raise AdapterError(
            f"{folder}: a {kind} adapter holds one matrix, prompt_embeddings; got {', '.join(sorted(tensors)[:3])}"
        )
    if kind in INPUTS and stored.shape[1] != subject.d_model:
        raise AdapterError(
            f"{folder}: {kind} positions have width {stored.shape[1]}, this model {subject.d_model}; "
            "was it made for another model?"
        )
    example = _cache(subject, torch.zeros(1, 1, subject.d_model) if kind in CACHES else stored[None])
    if kind in INPUTS:
        return _prefix(folder, [(keys[0], values[0]) for keys, values in example])
    heads, width = example[0][0].shape[1], example[0][0].shape[3]
    need = len(example) * 2 * heads * width
    if stored.shape[1] != need:
        raise AdapterError(
            f"{folder}: {kind} positions hold {stored.shape[1]} numbers, this model's keys and values {need}; was it made for "
            "another model?"
        )
    # PEFT's layout: position, layer * (key, value), head, d_head
    by_layer = stored.view(len(stored), len(example), 2, heads, width).permute(1, 2, 3, 0, 4)
    return _prefix(folder, [(layer[0], layer[1]) for layer in by_layer])


def _prefix(folder: Path, layers: list[tuple[Tensor, Tensor]]) -> Prefix:
    try:
        return Prefix(folder.name, [k.contiguous().cpu() for k, _ in layers], [v.contiguous().cpu() for _, v in layers])
    except ValueError as fault:
        raise AdapterError(f"{folder}: {fault}") from fault


@torch.no_grad()
def _cache(subject: Subject, embeddings: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of every layer after the model has read these embeddings. Raises AdapterError where it keeps none."""
    from transformers import DynamicCache
    from transformers.cache_utils import LinearAttentionCacheLayerMixin

    layers = DynamicCache(config=subject.model.config).layers
    if any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers):
        raise AdapterError(
            f"{subject.name} keeps a recurrent state beside keys and values; trained positions on it are not measured"
        )
    try:
        # without the model's configuration: a sliding layer would keep its last window alone, at other positions
        out: Any = subject.decoder(
            inputs_embeds=embeddings.to(subject.device, subject.dtype), use_cache=True, past_key_values=DynamicCache()
        )
        layers = [(layer.keys, layer.values) for layer in out.past_key_values.layers]
        if len(layers) == subject.n_layers and all(keys.ndim == 4 for keys, _ in layers):
            return layers
    except (AttributeError, TypeError, ValueError, LookupError, RuntimeError) as fault:
        reason = " ".join(str(fault).split())[:160]
        raise AdapterError(
            f"{subject.name} keeps no keys and values that trained positions could be: {reason}"
        ) from fault
    raise AdapterError(
        f"{subject.name} keeps no keys and values at some layers, so trained positions cannot be put there"
    )
