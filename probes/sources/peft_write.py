"""Write an adapter as a PEFT folder: one pair of LoRA factors, and perhaps a bias, per linear map."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.at_gains import gain_of
from override_gap.margins.updates import Dense, LowRank, Update, Vector
from override_gap.margins.whole_files import make_folder, write_text, write_whole
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.adapter_tree import WEIGHTS
from override_gap.probes.sources.peft_config import CONFIG, plain_number
from override_gap.probes.sources.peft_keys import PREFIX
from override_gap.probes.subject.sites import Site


def factors_and_biases(
    adapter: Adapter, sites: Mapping[str, Site] | None
) -> tuple[dict[str, LowRank], dict[str, Tensor]]:
    """(factors, biases) by the path of the map, document and shared part together; every scale is 1.

    A map of which only the bias changes gets factors of zero. Raises AdapterError for vectors that are not a map's bias.
    """
    maps: dict[str, LowRank] = {}
    biases: dict[str, Tensor] = {}
    for path in adapter.paths:
        updates = [part[path] for part in (adapter.updates, adapter.shared) if path in part]
        owner = path.removesuffix(".bias")
        vector = any(isinstance(update, Vector) for update in updates)
        if not vector and (path.rpartition(".")[2].isdecimal() or path.endswith(".weight")):
            raise AdapterError(
                f"adapter {adapter.name}: {path} is part of a parameter, not a linear map; a PEFT LoRA folder of maps "
                "cannot hold it; use --form compact"
            )
        if not vector:
            maps[path] = _concat_ranks(updates)
        elif sites is None:
            raise AdapterError(
                f"adapter {adapter.name}: {path} is a vector; pass sites= to find the map whose bias it is"
            )
        elif owner == path or owner not in sites:
            raise AdapterError(
                f"adapter {adapter.name}: {path} is a vector but not the bias of a linear map; a PEFT LoRA folder cannot "
                "hold it; use --form compact"
            )
        else:
            biases[owner] = torch.stack([update.dense().float() for update in updates]).sum(0)
    for owner in biases.keys() - maps.keys():
        site = (sites or {})[owner]
        maps[owner] = LowRank(torch.zeros(1, site.d_in), torch.zeros(site.d_out, 1))
    return maps, biases


def factored(delta: Float[Tensor, "d_out d_in"]) -> LowRank:
    """A matrix as factors of its numerical rank, by singular values in float64; exact to float32 rounding."""
    left, values, right = torch.linalg.svd(delta.double(), full_matrices=False)
    rank = max(int((values > values[0] * torch.finfo(torch.float32).eps).sum()), 1)
    root = values[:rank].sqrt()
    return LowRank((root[:, None] * right[:rank]).float(), (left[:, :rank] * root).float())


def _concat_ranks(updates: list[Update]) -> LowRank:
    """Updates of one map as one pair of factors, concatenated along the rank, each scale folded into its B."""
    low = [factored(update.delta) if isinstance(update, Dense) else update for update in updates]
    factors = [update for update in low if isinstance(update, LowRank)]
    return LowRank(torch.cat([u.A for u in factors]), torch.cat([u.scale * u.B for u in factors], dim=1))


def write_adapter(
    adapter: Adapter,
    folder: Path,
    base: str = "",
    sites: Mapping[str, Site] | None = None,
    gains: Sequence[float] | None = None,
) -> None:
    """Save an adapter as a PEFT folder that PEFT reproduces: scale folded into B, lora_alpha equal to the rank.

    With `gains`, one per layer, the factors are the same and lora_alpha is gain * rank, per module where gains differ: PEFT
    multiplies lora_B's bias by the same scale. A dense update is written as the factors of its singular value decomposition, a
    bias as the bias of lora_B; biases need the model's `sites`. Raises AdapterError for the weight or bias of a norm, which a
    LoRA folder cannot hold.
    """
    maps, biases = factors_and_biases(adapter, sites)
    make_folder(folder)
    tensors, ranks = {}, {path: update.rank for path, update in maps.items()}
    for path, update in maps.items():
        tensors[f"{PREFIX}{path}.lora_A.weight"] = update.A.contiguous().cpu()
        tensors[f"{PREFIX}{path}.lora_B.weight"] = update.B.contiguous().cpu()
        if biases:
            # in PEFT either every map has a bias or none has
            bias = biases.get(path, torch.zeros(update.shape[0]))
            tensors[f"{PREFIX}{path}.lora_B.bias"] = bias.contiguous().cpu()
    rank = max(ranks.values())
    by_map = {path: 1.0 if gains is None else gain_of(path, gains, adapter.name) for path in ranks}
    common = next(iter(by_map.values())) if len(set(by_map.values())) == 1 else 1.0
    alpha, alphas = plain_number(common * rank), {path: plain_number(by_map[path] * r) for path, r in ranks.items()}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {path: r for path, r in ranks.items() if r != rank},
        "alpha_pattern": {path: value for path, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "inference_mode": True,
        "lora_dropout": 0.0,
        "bias": "none",
        "lora_bias": bool(biases),
    }
    write_whole(folder / WEIGHTS, lambda file: save_file(tensors, file))
    write_text(folder / CONFIG, json.dumps(config, indent=2))
