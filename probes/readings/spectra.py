"""What an adapter's update is to the weight that it changes: intruder dimensions, and how much lies in the weight's own span."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.geometry import singular_values, stable_rank
from override_gap.margins.updates import Vector
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.sites import base_weight

TOP = 10
"""So many leading singular vectors of the changed weight are looked at."""
UNLIKE = 0.5
"""A changed weight's singular vector is an intruder where its cosine with every one of the weight's own is below this."""


@dataclass(frozen=True)
class Spectrum:
    """One map's update under one adapter, beside the weight that it changes.

    `norm`: Frobenius, weight units; `stable_rank`: |update|_F^2 / |update|_2^2. `intruders`: how many of the `looked_at`
    leading left singular vectors of weight + update have a cosine below UNLIKE with every left singular vector of the weight
    (Shuttleworth et al. 2024, arXiv 2410.21228). `inside`: the share of the update's squared norm that lies in the span of the
    weight's leading left singular vectors, as many as the update has rank; `by_chance`: that of an update in a random direction.
    """

    path: str
    layer: int
    norm: float
    stable_rank: float
    intruders: int
    looked_at: int
    inside: float
    by_chance: float


@torch.no_grad()
def read_spectra(subject: Subject, adapter: Adapter) -> Iterator[Spectrum]:
    """Each linear map's update under an adapter, document and shared part together; vectors and updates of zero are left out.

    One full singular value decomposition of the weight and one of the changed weight per map. Raises AdapterError where a
    weight cannot be read.
    """
    for path in adapter.paths:
        parts = [part[path] for part in (adapter.updates, adapter.shared) if path in part]
        layer = layer_of(path)
        if path not in subject.sites or layer is None or any(isinstance(part, Vector) for part in parts):
            continue
        values = singular_values(parts)
        rank = int((values > values[0] * torch.finfo(torch.float32).eps).sum()) if values[0] > 0 else 0
        if not rank:
            continue
        weight = base_weight(subject.sites[path])
        delta = torch.stack([part.dense().float().cpu() for part in parts]).sum(0)
        own = torch.linalg.svd(weight, full_matrices=False).U
        inside = (own[:, :rank].T @ delta).square().sum() / delta.square().sum()
        count = min(TOP, *weight.shape)
        changed = torch.linalg.svd(weight + delta, full_matrices=False).U[:, :count]
        yield Spectrum(
            path,
            layer,
            norm=float(torch.linalg.norm(values)),
            stable_rank=stable_rank(values),
            intruders=intruders(own, changed),
            looked_at=count,
            inside=float(inside),
            by_chance=rank / weight.shape[0],
        )


def intruders(own: Float[Tensor, "d_out value"], changed: Float[Tensor, "d_out top"]) -> int:
    """How many columns of `changed` have a cosine below UNLIKE, either sign, with every column of `own`."""
    return int(((changed.T @ own).abs().amax(1) < UNLIKE).sum())
