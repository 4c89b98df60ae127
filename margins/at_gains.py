"""An adapter at the gains of its layers: W_base + gain * (W_adapted - W_base), written as an adapter of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.updates import Dense, LowRank, Rescaled, Update, Vector


def at_gains(adapter: Adapter, gains: Sequence[float]) -> Adapter:
    """The adapter whose every update is multiplied by the gain of its layer, document and shared part alike.

    `gains`: one per layer. Low-rank factors are left as they are, and their scale changes; so do all parts of a DoRA update,
    whose effective change is what a gain multiplies. Raises ValueError where an update is in no layer that has a gain.
    """
    own, shared = (
        {path: scaled(update, gain_of(path, gains, adapter.name)) for path, update in part.items()}
        for part in (adapter.updates, adapter.shared)
    )
    return replace(adapter, updates=own, shared=shared)


def gain_of(path: str, gains: Sequence[float], name: str = "") -> float:
    """The gain of the layer that a path is in. Raises ValueError where it is in none that has a gain."""
    layer = layer_of(path)
    if layer is None or layer >= len(gains):
        raise ValueError(f"adapter {name}: {path} belongs to none of the {len(gains)} layers that have a gain")
    return float(gains[layer])


def scaled(update: Update, gain: float) -> Update:
    """gain * update, in the update's own form."""
    if isinstance(update, LowRank):
        return replace(update, scale=gain * update.scale)
    if isinstance(update, Rescaled):
        low_rank = replace(update.low_rank, scale=gain * update.low_rank.scale)
        return Rescaled(_times(gain, update.delta), _times(gain, update.rows), low_rank)
    product = _times(gain, update.delta)
    return Dense(product) if isinstance(update, Dense) else Vector(product)


def _times(gain: float, tensor: Tensor) -> Tensor:
    """The product in float32 at least: rounded to a half-precision format it would be another update."""
    return gain * (tensor if tensor.dtype == torch.float64 else tensor.float())
