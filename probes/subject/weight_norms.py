"""Frobenius norms of a model's own weights, by path: what the norm of an update is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, AnyAdapter, layer_of
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.devices import materialized
from override_gap.probes.subject.parameters import parameter_site
from override_gap.probes.subject.quantised import holds_its_weight
from override_gap.probes.subject.sites import Site, base_weight, vector_site


@dataclass(eq=False)
class WeightNorms:
    """Norms of a model's weights, each computed when it is first asked for, then remembered.

    The keys are those of an adapter's updates: the path of a linear map (also a fused or a quantised one, whose weight is what
    it multiplies by), of an expert's matrix, or of a vector. NaN where the weight cannot be read.
    """

    model: Any
    sites: Mapping[str, Site]
    measured: dict[str, float] = field(default_factory=dict)

    def of(self, path: str) -> float:
        """The Frobenius norm of the weight at this path, in weight units."""
        if path not in self.measured:
            self.measured[path] = self._norm(path)
        return self.measured[path]

    def by_layer(self, paths: Iterable[str], n_layers: int) -> Float[Tensor, " layer"]:
        """Root of the summed squares of these weights' norms, by layer; 0 where none of them is in the layer."""
        squared = torch.zeros(n_layers, dtype=torch.float64)
        for path in paths:
            squared[layer_of(path) or 0] += self.of(path) ** 2
        return squared.sqrt()

    @torch.no_grad()
    def _norm(self, path: str) -> float:
        site = self.sites.get(path)
        if site is not None:
            if not holds_its_weight(site.module):
                try:
                    return torch.linalg.norm(base_weight(site)).item()
                except AdapterError:
                    return math.nan
            with materialized(site.module):
                weight = site.module.get_parameter("weight").detach()
                # row by row in float32, so that a large map of half precision is never copied whole
                return torch.linalg.norm(
                    torch.stack([row.float().norm() for row in weight.split(1024)]).double()
                ).item()
        vector = vector_site(self.model, self.sites, path)
        if vector is not None:
            return torch.linalg.norm(vector.base.double()).item()
        parameter = parameter_site(self.model, path)
        return math.nan if parameter is None else torch.linalg.norm(parameter.base()).item()


def changed_weight_norms(
    norms: WeightNorms, adapters: Sequence[AnyAdapter], n_layers: int
) -> Float[Tensor, "batch layer"]:
    """By adapter and layer, the norm of the weights that the adapter's updates change; NaN for a method without updates."""
    none = torch.full((n_layers,), math.nan, dtype=torch.float64)
    by_paths: dict[tuple[str, ...], Tensor] = {}
    rows = []
    for adapter in adapters:
        paths = tuple(adapter.paths) if isinstance(adapter, Adapter) else ()
        if paths and paths not in by_paths:
            by_paths[paths] = norms.by_layer(paths, n_layers)
        rows.append(by_paths.get(paths, none))
    return torch.stack(rows)
