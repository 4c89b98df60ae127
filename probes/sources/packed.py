"""Packed: an adapter as one pair of factors and perhaps one bias a linear map, the form that a LoRA folder holds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from margins.adapter import Adapter
from margins.updates import Dense, LowRank, Update, Vector
from probes.sites import AdapterError, Site


def packed(adapter: Adapter, sites: Mapping[str, Site] | None) -> tuple[dict[str, LowRank], dict[str, Tensor]]:
    """(factors, biases) by the path of the map, document and shared part together, every scale 1.

    A map of which only the bias changes gets factors of zero. Raises AdapterError for vectors that are no bias of a map.
    """
    maps: dict[str, LowRank] = {}
    biases: dict[str, Tensor] = {}
    for path in adapter.paths:
        parts = [part[path] for part in (adapter.updates, adapter.shared) if path in part]
        owner = path.removesuffix(".bias")
        if not any(isinstance(part, Vector) for part in parts):
            maps[path] = _joined(parts)
        elif sites is None:
            raise AdapterError(f"adapter {adapter.name}: {path} is a vector; whose bias it is takes the model's sites")
        elif owner == path or owner not in sites:
            raise AdapterError(
                f"adapter {adapter.name}: {path} is a vector and no bias of a linear map; a PEFT LoRA folder cannot hold it, "
                "a compact file can"
            )
        else:
            biases[owner] = torch.stack([part.dense().float() for part in parts]).sum(0)
    for owner in biases.keys() - maps.keys():
        site = (sites or {})[owner]
        maps[owner] = LowRank(torch.zeros(1, site.d_in), torch.zeros(site.d_out, 1))
    return maps, biases


def factored(delta: Float[Tensor, "d_out d_in"]) -> LowRank:
    """A matrix as factors of its numerical rank, by singular values in float64; exact to float32 rounding."""
    left, values, right = torch.linalg.svd(delta.double(), full_matrices=False)
    kept = max(int((values > values[0] * torch.finfo(torch.float32).eps).sum()), 1)
    root = values[:kept].sqrt()
    return LowRank((root[:, None] * right[:kept]).float(), (left[:, :kept] * root).float())


def _joined(parts: list[Update]) -> LowRank:
    """Updates of one map side by side along the rank, each scale in its B."""
    low = [factored(part.delta) if isinstance(part, Dense) else part for part in parts]
    factors = [part for part in low if isinstance(part, LowRank)]
    return LowRank(torch.cat([u.A for u in factors]), torch.cat([u.scale * u.B for u in factors], dim=1))
