"""What an adapter's update is to the weight that it changes: intruder dimensions, and how much lies in the weight's own span."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def read_spectra(subject: Subject, adapter: Adapter) -> Iterator[Spectrum]:
    """Each linear map's update under an adapter, document and shared part together; vectors and updates of zero are left out.

    Raises AdapterError where a weight cannot be read.
    """
    return (spectrum for _, spectrum in read_each_spectrum(subject, [adapter]))


@torch.no_grad()
def read_each_spectrum(subject: Subject, adapters: Sequence[Adapter]) -> Iterator[tuple[int, Spectrum]]:
    """The same of several adapters, map by map, each with the number of its adapter.

    One singular value decomposition of every weight serves all of them.
    """
    for path in dict.fromkeys(path for adapter in adapters for path in adapter.paths):
        layer = layer_of(path)
        if path not in subject.sites or layer is None:
            continue
        weight, own = None, None
        for n, adapter in enumerate(adapters):
            parts = [part[path] for part in (adapter.updates, adapter.shared) if path in part]
            if not parts or any(isinstance(part, Vector) for part in parts):
                continue
            values = singular_values(parts).cpu()
            rank = int((values > values[0] * torch.finfo(torch.float32).eps).sum()) if values[0] > 0 else 0
            if not rank:
                continue
            if weight is None or own is None:
                weight = base_weight(subject.sites[path]).double()
                own = torch.linalg.svd(weight, full_matrices=False).U
            delta = torch.stack([part.dense().double().cpu() for part in parts]).sum(0)
            inside = (own[:, :rank].T @ delta).square().sum() / delta.square().sum()
            count = min(TOP, *weight.shape)
            leading = leading_vectors(weight + delta, count)
            yield (
                n,
                Spectrum(
                    path,
                    layer,
                    norm=float(torch.linalg.norm(values)),
                    stable_rank=stable_rank(values),
                    intruders=intruders(own, leading),
                    looked_at=count,
                    inside=float(inside),
                    by_chance=rank / weight.shape[0],
                ),
            )


def leading_vectors(matrix: Float[Tensor, "d_out d_in"], count: int) -> Float[Tensor, "d_out count"]:
    """The left singular vectors of the `count` largest singular values, in any order and sign.

    Eigenvectors of M M^T, or M v of those of M^T M, whichever is smaller: faster than a whole decomposition. Float64, since
    squares have half the digits.
    """
    m = matrix.double()
    if m.shape[0] <= m.shape[1]:
        return torch.linalg.eigh(m @ m.T).eigenvectors[:, -count:]
    left = m @ torch.linalg.eigh(m.T @ m).eigenvectors[:, -count:]
    return left / torch.linalg.norm(left, dim=0).clamp_min(torch.finfo(left.dtype).tiny)


def intruders(own: Float[Tensor, "d_out value"], changed: Float[Tensor, "d_out top"]) -> int:
    """How many columns of `changed` have a cosine below UNLIKE, either sign, with every column of `own`."""
    return int(((changed.T @ own).abs().amax(1) < UNLIKE).sum())
