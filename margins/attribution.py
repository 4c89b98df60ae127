"""A margin split over layers: attribution (exact under a frozen norm) and lens (each layer's own norm)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FinalNorm:
    """The model's last normalisation, as numbers: y = (x - mean) / scale(x) * weight + bias.

    `centred` is LayerNorm (mean removed, scale the standard deviation); otherwise RMSNorm (mean 0, scale the root mean
    square). `weight` is the effective one: 1 + w where the model multiplies by that (Gemma).
    """

    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    eps: float
    centred: bool

    def scale(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """What x is divided by."""
        x = self.centre(x)
        return (x.square().mean(-1, keepdim=True) + self.eps).sqrt()

    def centre(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """x without its mean where the norm removes it."""
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def __call__(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.centre(x) / self.scale(x) * self.weight + self.bias


def attribution(
    residual: Float[Tensor, "batch layer d_model"],
    norm: FinalNorm,
    direction: Float[Tensor, "batch d_model"],
    constant: Float[Tensor, " batch"],
) -> Float[Tensor, "batch layer"]:
    """What each layer adds to the margin, nats, with the final norm's scale frozen at its own value.

    `residual` holds the stream at the reading position: before the first layer, then after each layer. Entry 0 of the
    result is the embedding with all constant terms (`constant` is the unembedding bias's share); entry l + 1 is layer
    l. With W the unembedding rows' difference, layer l gives ((x_l - x_{l-1}) centred / scale(x_last) * weight) . W:
    linear in the stream, so the entries sum exactly to the pre-cap margin.
    """
    steps = torch.cat([residual[:, :1], residual.diff(dim=1)], dim=1)
    shares = norm.centre(steps) / norm.scale(residual[:, -1:]) * norm.weight
    shares = torch.einsum("bld,bd->bl", shares, direction)
    shares[:, 0] += direction @ norm.bias + constant
    return shares


def lens(
    residual: Float[Tensor, "batch layer d_model"],
    norm: FinalNorm,
    direction: Float[Tensor, "batch d_model"],
    constant: Float[Tensor, " batch"],
) -> Float[Tensor, "batch layer"]:
    """The margin the model would show if it stopped after each layer, nats, pre-cap: each layer's own norm statistics."""
    return torch.einsum("bld,bd->bl", norm(residual), direction) + constant[:, None]


def direct(
    written: Float[Tensor, "batch d_model"],
    last: Float[Tensor, "batch d_model"],
    norm: FinalNorm,
    direction: Float[Tensor, "batch d_model"],
) -> Float[Tensor, " batch"]:
    """What an update writes straight into the adapter margin, nats, the adapted final scale frozen.

    `direction` points from y_doc to y_pre, the adapter margin the other way, hence the sign.
    """
    return -torch.einsum("bd,bd->b", norm.centre(written) / norm.scale(last) * norm.weight, direction)


def predicted_critical_gain(prior_margin: float, adapter_margin: float) -> float:
    """The gain at which the item would flip if the response were linear: D_prior / D_adapter.

    Already flipped at gain 0 where the prior margin is negative: 0. No gain flips it where the adapter pushes the
    wrong way: infinity.
    """
    if math.isnan(prior_margin) or math.isnan(adapter_margin):
        return math.nan
    if prior_margin < 0:
        return 0.0
    return prior_margin / adapter_margin if adapter_margin > 0 else math.inf
