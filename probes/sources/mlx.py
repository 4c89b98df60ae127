"""LoRA folders that MLX wrote (mlx_lm.lora), as PEFT would store them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.peft_keys import PREFIX

WEIGHTS = "adapters.safetensors"


def as_peft(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, tensors) as PEFT has them.

    MLX adds scale * x lora_a lora_b with lora_a [d_in, rank] and lora_b [rank, d_out] (mlx_lm.tuner.lora.LoRALinear); its
    DoRA has the magnitudes m. So A is lora_a transposed, B lora_b transposed, and lora_alpha / r the scale. Raises
    AdapterError for a folder of whole weights, of experts or embeddings, or without a scale.
    """
    kind = config.get("fine_tune_type", "dora" if config.get("use_dora") else "lora")
    parameters = config.get("lora_parameters")
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    if kind not in ("lora", "dora"):
        raise AdapterError(f"{folder}: an MLX folder whose fine_tune_type is {kind!r}; need lora or dora")
    if not isinstance(scale, int | float) or isinstance(scale, bool):
        raise AdapterError(f"{folder}: an MLX folder without lora_parameters.scale, so the update's size is unknown")
    renamed: dict[str, Tensor] = {}
    alpha: dict[str, float] = {}
    for key, tensor in tensors.items():
        part = re.fullmatch(r"(.+)\.(lora_a|lora_b|m)", key)
        if part is None or tensor.ndim != (1 if part[2] == "m" else 2):
            raise AdapterError(
                f"{folder}: tensor {key!r} of shape {list(tensor.shape)} is no factor of a linear map in an MLX folder, and "
                "without it the adapter is incomplete"
            )
        path = f"{PREFIX}{part[1]}"
        if part[2] == "m":
            renamed[f"{path}.lora_magnitude_vector"] = tensor
        else:
            renamed[f"{path}.lora_{part[2][-1].upper()}.weight"] = tensor.T.contiguous()
        if part[2] == "lora_a":
            alpha[re.escape(part[1])] = scale * tensor.shape[1]
    peft = {"peft_type": "LORA", "lora_alpha": scale, "alpha_pattern": alpha, "use_dora": kind == "dora"}
    return peft, renamed
