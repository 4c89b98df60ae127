"""LoRA of whole parameters, as PEFT's target_parameters has it: experts stacked in one tensor, and routers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from override_gap.margins.updates import LowRank, Update
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.peft_config import lora_scale
from override_gap.probes.sources.peft_patterns import by_pattern
from override_gap.probes.subject.live_model import LiveModel


def targeted_parameters(config: Mapping[str, Any], module: nn.Module, path: str) -> list[str]:
    """The names of a module's parameters that target_parameters names, in the order in which PEFT wraps them."""
    targets = tuple(config.get("target_parameters") or ())
    names = [name for name, value in module._parameters.items() if value is not None]
    return [n for n in names if f"{path}.{n}" in targets or f"{path}.{n}".endswith(tuple(f".{t}" for t in targets))]


def read_parameters(
    folder: Path,
    config: Mapping[str, Any],
    subject: LiveModel,
    path: str,
    by_depth: Mapping[int, Mapping[str, Tensor]],
    *,
    scaled: bool = True,
) -> dict[str, Update]:
    """The updates of one module's parameters, one per expert, in the orientation in which the model stores them.

    `by_depth`: factors by how deep PEFT's wrappers are nested: the parameter wrapped last is outermost, depth 0. A holds the
    experts' factors one after the other, [expert * rank, d_in]; B's columns go through all experts for each rank,
    [d_out, rank * expert] (peft.tuners.lora.layer.ParamWrapper). The scale is lora_alpha / r, r being one expert's rank.
    Where that scale does not act (not `scaled`) the rank need not be the declared one.
    """
    module = subject.model.get_submodule(path)
    names = targeted_parameters(config, module, path)
    if not names:
        weight = module._parameters.get("weight")
        if list(by_depth) != [0] or weight is None or weight.ndim != 2:
            raise AdapterError(
                f"{folder}: {path} has LoRA factors but is no linear map, and target_parameters names none of its parameters"
            )
        names = ["weight"]
    if sorted(by_depth) != list(range(len(names))):
        raise AdapterError(
            f"{folder}: {path}: target_parameters names {len(names)} of its parameters ({', '.join(names)}), but factors of "
            f"{len(by_depth)} are stored"
        )
    updates: dict[str, Update] = {}
    for depth, factors in by_depth.items():
        updates |= _read_parameter(folder, config, module, f"{path}.{names[len(names) - 1 - depth]}", factors, scaled)
    return updates


def _read_parameter(
    folder: Path, config: Mapping[str, Any], module: nn.Module, path: str, factors: Mapping[str, Tensor], scaled: bool
) -> dict[str, Update]:
    if set(factors) != {"A", "B"}:
        raise AdapterError(f"{folder}: {path} (target_parameters): need both factors, got {', '.join(sorted(factors))}")
    if config.get("use_dora"):
        raise AdapterError(f"{folder}: {path} (target_parameters): use_dora is not defined for experts and routers")
    A, B = factors["A"].float(), factors["B"].float()  # PEFT computes in float32 also where a file holds bfloat16
    value = module.get_parameter(path.rpartition(".")[2])
    if value.is_meta or not value.is_floating_point() or value.ndim not in (2, 3):
        raise AdapterError(
            f"{folder}: {path} (target_parameters): need experts as a floating-point tensor in memory, got "
            f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}{' on the meta device' if value.is_meta else ''}"
        )
    experts = value.shape[0] if value.ndim == 3 else 1
    if A.ndim != 2 or B.ndim != 2 or A.shape[0] != B.shape[1] or not A.shape[0] or A.shape[0] % experts:
        raise AdapterError(
            f"{folder}: {path} (target_parameters): need A [{experts} experts * rank, d_in] and B [d_out, rank * {experts}], "
            f"got {list(A.shape)} and {list(B.shape)}"
        )
    rank = A.shape[0] // experts
    declared = by_pattern(config.get("rank_pattern"), path, config.get("r", rank))
    if scaled and declared != rank:
        raise AdapterError(
            f"{folder}: {path} (target_parameters) has rank {rank} per expert, but the configuration says {declared}; the "
            "scale would be wrong"
        )
    scale = lora_scale(config, path, rank)
    by_expert = A.reshape(experts, rank, -1), B.reshape(B.shape[0], rank, experts).permute(2, 0, 1)
    inward = bool(getattr(module, "is_transposed", False)) and value.ndim == 3
    rows, columns = value.shape[-2:]
    d_out, d_in = (columns, rows) if inward else (rows, columns)
    if (B.shape[0], A.shape[1]) == (d_in, d_out) != (d_out, d_in):
        inward = not inward  # saved by a PEFT that took every stack for [expert, d_in, d_out]
    elif (B.shape[0], A.shape[1]) != (d_out, d_in):
        raise AdapterError(
            f"{folder}: {path} (target_parameters) needs an update of shape {[d_out, d_in]} per expert, got "
            f"{[B.shape[0], A.shape[1]]}; was it made for another model?"
        )
    updates: dict[str, Update] = {}
    for n, (a, b) in enumerate(zip(*by_expert, strict=True)):
        low_rank = LowRank(b.T, a.T, scale) if inward else LowRank(a, b, scale)
        updates[f"{path}.{n}" if value.ndim == 3 else path] = low_rank
    return updates
