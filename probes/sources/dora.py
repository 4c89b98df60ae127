"""DoRA: a magnitude and a direction of the whole weight, made into the dense update that it amounts to."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from margins.updates import Dense, LowRank
from probes.sites import AdapterError, base_weight
from probes.subject import Subject


def densified(weight: Float[Tensor, "d_out d_in"], update: LowRank, magnitude: Float[Tensor, " d_out"]) -> Dense:
    """W_adapted - W_base, where W_adapted = magnitude * (W + s B A) / ||W + s B A|| row by row (Liu et al. 2024, eq. 5).

    Neither B A nor the magnitude alone is linear in amplitude; this difference is, by the definition of amplitude.
    """
    adapted = weight + update.dense().to(weight)
    return Dense(magnitude[:, None].to(weight) * adapted / adapted.norm(dim=1, keepdim=True) - weight)


def read_dora(subject: Subject, path: str, update: LowRank, magnitude: Tensor) -> Dense:
    """The update of one map of `subject`. Raises AdapterError where it has no such map or the shapes differ."""
    site = subject.sites.get(path)
    if site is None:
        raise AdapterError(
            f"{path}: a DoRA adapter needs the weight that it was trained on; this model has no such map"
        )
    magnitude = magnitude.flatten()
    if update.shape != (site.d_out, site.d_in) or len(magnitude) != site.d_out:
        raise AdapterError(
            f"{path}: needs an update of shape {[site.d_out, site.d_in]} and {site.d_out} magnitudes, "
            f"got {list(update.shape)} and {len(magnitude)}"
        )
    with torch.no_grad():
        return densified(base_weight(site), update, magnitude.float())
