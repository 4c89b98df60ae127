"""Hashes and sums over a model's weights, so that a run can tell whether two models are the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn

from override_gap.probes.subject.devices import named_tensors


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over every parameter and buffer in the state dict, names and shapes included."""
    digest = hashlib.sha256()
    for name, tensor in named_tensors(model):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@torch.no_grad()
def weight_sums(model: nn.Module) -> dict[str, int]:
    """The sum of each parameter's values, their bits read as integers, modulo 2^64: exact, in any order, on any device.

    Much cheaper than a hash, and enough to notice an accidental change. Parameters that accelerate has offloaded are left
    out.
    """
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return {
        name: int(weight.detach().contiguous().view(integers[weight.element_size()]).sum(dtype=torch.int64))
        for name, weight in model.named_parameters()
        if not weight.is_meta
    }


def subject_fingerprint(model: Any, tokenizer: Any) -> str:
    """Hash of all that a subject's readings depend on: weights, configuration, tokenizer, chat template, stop tokens."""
    config = {k: v for k, v in model.config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    stops = getattr(model, "generation_config", None)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    hashed = [
        weights_hash(model),
        json.dumps(config, sort_keys=True, default=str),
        str(None if stops is None else stops.eos_token_id),
        backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True),
        json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str),
        str(getattr(tokenizer, "chat_template", None)),
    ]
    return hashlib.sha256("\0".join(hashed).encode()).hexdigest()
