"""One LoRA's tensors: factors and magnitudes by module, parameters that are stored whole, and a module's update."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from override_gap.margins.updates import LowRank, Update, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.peft_config import CONFIG, lora_scale
from override_gap.probes.sources.peft_keys import PREFIX
from override_gap.probes.sources.peft_parameters import targeted_parameters
from override_gap.probes.sources.peft_patterns import by_pattern
from override_gap.probes.sources.peft_places import owner
from override_gap.probes.sources.peft_whole import parameter_path, read_dora
from override_gap.probes.subject.live_model import LiveModel


def group_tensors(
    folder: Path, config: Mapping[str, Any], subject: LiveModel, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor], dict[str, Tensor]]:
    """A folder's tensors as LoRA factors (A, B, perhaps bias) and DoRA magnitudes by module path, and whole parameters by key."""
    factors: dict[str, dict[str, Tensor]] = {}
    magnitudes: dict[str, Tensor] = {}
    whole: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        path = key.removeprefix(PREFIX)
        factor = re.fullmatch(r"(.+)\.lora_(A|B)\.(weight|bias)", path)
        if path.endswith(".lora_magnitude_vector") and config.get("use_dora"):
            magnitudes[path.removesuffix(".lora_magnitude_vector")] = tensor
        elif factor is not None and factor[2] + factor[3] != "Abias":
            factors.setdefault(factor[1], {})[factor[2] if factor[3] == "weight" else "bias"] = tensor
        elif ".lora_embedding_" in path:
            raise AdapterError(
                f"{folder}: {path.partition('.lora_embedding_')[0]} is an embedding with LoRA factors: it is in no layer, so no "
                "gain scales it"
            )
        elif ".lora_" not in path and (_stores_whole(config, path) or owner(subject.model, parameter_path(path))):
            whole[path] = tensor
        else:
            head = (
                f"; its task_type is {config['task_type']}"
                if config.get("task_type") not in (None, "CAUSAL_LM")
                else ""
            )
            raise AdapterError(
                f"{folder}: tensor {key!r} is not a plain LoRA factor, and without it the adapter is incomplete{head}"
            )
    return factors, magnitudes, whole


def read_module(
    folder: Path,
    config: Mapping[str, Any],
    subject: LiveModel,
    path: str,
    factors: Mapping[str, Tensor],
    magnitude: Tensor | None,
    *,
    scaled: bool = True,
) -> dict[str, Update]:
    """The update of one module, and of its bias where lora_B has one.

    Raises AdapterError where its scale is not certain: `scaled` says that it acts, so that the rank must be the declared one.
    """
    if not {"A", "B"} <= set(factors):
        present = [f"lora_{side}" for side in factors if side != "bias"] or ["a bias of lora_B"]
        raise AdapterError(f"{folder}: {path} has only {present[0]}; need both factors")
    A, B, bias = factors["A"], factors["B"], factors.get("bias")
    rank = A.shape[0] if A.ndim else 0
    if rank == 0:
        raise AdapterError(
            f"{folder}: {path} has rank 0: its tensors are empty, as when DeepSpeed ZeRO-3 or FSDP save shards that were not "
            "gathered"
        )
    scale = lora_scale(config, path, rank)
    updates: dict[str, Update] = {}
    site = subject.sites.get(path)
    if (
        site is not None
        and site.transposed
        and targeted_parameters(config, site.module, path)
        and A.ndim == B.ndim == 2
    ):
        A, B = B.T, A.T  # target_parameters adds to a weight as it is stored; Conv1D stores [d_in, d_out]
    try:
        # PEFT computes in float32 also where a file holds bfloat16
        update = LowRank(A, B, scale) if magnitude is None else LowRank(A.float(), B.float(), scale)
        if config.get("use_dora") and magnitude is None:
            raise ValueError("use_dora is set but no lora_magnitude_vector is stored, so the update's size is unknown")
        updates[path] = update if magnitude is None else read_dora(subject, path, update, magnitude)
        if bias is not None:
            # PEFT scales lora_B's bias with its product
            updates[f"{path}.bias"] = Vector(bias * scale)
    except ValueError as fault:
        raise AdapterError(f"{folder}: {path}: {fault}") from fault
    declared = by_pattern(config.get("rank_pattern"), path, config.get("r", rank))
    if scaled and declared != rank:
        raise AdapterError(f"{folder}: {path} has rank {rank}, but {CONFIG} says {declared}; the scale would be wrong")
    return updates


def _stores_whole(config: Mapping[str, Any], key: str) -> bool:
    """Whether the configuration says that this parameter is stored whole, not as factors."""
    biased = config.get("bias", "none") != "none" and key.endswith(".bias")
    return biased or inside(key, config.get("modules_to_save") or ())


def inside(path: str, modules: Sequence[str]) -> bool:
    """PEFT's rule for modules_to_save: a name stands for every module whose path ends with it, and all inside that module."""
    owners = path.split(".")[:-1]
    return any(".".join(owners[: n + 1]).endswith(module) for n in range(len(owners)) for module in modules)
