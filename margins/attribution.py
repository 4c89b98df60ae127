"""A margin split over layers: attribution (exact under a frozen norm) and lens (each layer's own norm); critical gain."""

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
    square). `weight` is the effective one: 1 + w where the model multiplies by that (Gemma). `divides` False: the model has no
    final norm (GPT-1), its scale is 1.
    """

    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    eps: float
    centred: bool
    divides: bool = True

    def scale(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """What x is divided by."""
        if not self.divides:
            return torch.ones_like(x[..., :1])
        x = self.centre(x)
        return (x.square().mean(-1, keepdim=True) + self.eps).sqrt()

    def centre(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """x without its mean where the norm removes it."""
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def __call__(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.centre(x) / self.scale(x) * self.weight + self.bias


def attribution(
    residual: Float[Tensor, "batch depth d_model"],
    norm: FinalNorm,
    direction: Float[Tensor, "batch d_model"],
    constant: Float[Tensor, " batch"],
) -> Float[Tensor, "batch depth"]:
    """What each layer adds to the margin, nats, with the final norm's scale frozen at its own value.

    `residual` is the residual stream at the position that is read: before the first layer, then after each layer, so
    that depth is one more than layers. Entry 0 of the result is the embedding with all constant terms (`constant` is the
    share of the unembedding's bias); entry l + 1 is layer l. With W the difference of two unembedding rows, layer l gives
    ((x_l - x_{l-1}) centred / scale(x_last) * weight) . W: linear in the stream, so the entries sum to the pre-cap margin.
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
    """The margin if the final norm were applied after each layer, nats, pre-cap; each layer with norm statistics of its own."""
    return torch.einsum("bld,bd->bl", norm(residual), direction) + constant[:, None]


def direct(
    written: Float[Tensor, "batch d_model"],
    last: Float[Tensor, "batch d_model"],
    norm: FinalNorm,
    direction: Float[Tensor, "batch d_model"],
) -> Float[Tensor, " batch"]:
    """What an update writes directly into the adapter margin, nats, with the adapted model's final scale frozen.

    `direction` points from y_doc to y_pre, the adapter margin the other way, hence the sign.
    """
    return -torch.einsum("bd,bd->b", norm.centre(written) / norm.scale(last) * norm.weight, direction)


def predicted_critical_gain(prior_margin: float, adapter_margin: float) -> float:
    """The gain at which the net margin would become positive if it were linear in the gain: D_prior / D_adapter.

    0 where the prior margin is negative, since gain 0 is enough; infinity where the adapter margin is not positive, since
    no gain is; NaN where a margin is.
    """
    if math.isnan(prior_margin) or math.isnan(adapter_margin):
        return math.nan
    if prior_margin < 0:
        return 0.0
    return prior_margin / adapter_margin if adapter_margin > 0 else math.inf
