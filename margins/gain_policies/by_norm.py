"""Policies that set gains by the norms of the layers, or the same everywhere; static but for the norms of each adapter.

Sources: SLB from arXiv 2604.23750; the controls are this toolkit's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.gain_policies.inputs import Gains, PolicyInputs


def boosted_count(norms: Float[Tensor, " layer"], share: float) -> int:
    """How many layers a share is: of the layers with an update, rounded to the nearest integer, at least one."""
    updated = int((norms > 0).sum())
    return max(1, math.floor(share * updated + 0.5)) if updated else 0


@dataclass(frozen=True)
class Uniform:
    """The same gain at every layer."""

    gain: float

    def __call__(self, inputs: PolicyInputs) -> Gains:
        return torch.full_like(inputs.norms, self.gain)


DELIVERED = Uniform(1.0)


@dataclass(frozen=True)
class PerLayer:
    """Gains that are given layer by layer, the same for every adapter and question."""

    gains: tuple[float, ...]

    def __call__(self, inputs: PolicyInputs) -> Gains:
        """Raises ValueError on a model of another number of layers."""
        if len(inputs.norms) != len(self.gains):
            raise ValueError(f"the policy gives gains for {len(self.gains)} layers, the model has {len(inputs.norms)}")
        return torch.tensor(self.gains, dtype=inputs.norms.dtype)


@dataclass(frozen=True)
class TopNorm:
    """SLB, Selective Layer Boosting: the layers of largest Frobenius norm at `gain`, the others as delivered."""

    gain: float = 1.75
    share: float = 0.25

    def boosted_layers(self, inputs: PolicyInputs) -> Int[Tensor, " boosted"]:
        """Indices of the boosted layers."""
        return inputs.norms.argsort(descending=True, stable=True)[: boosted_count(inputs.norms, self.share)]

    def __call__(self, inputs: PolicyInputs) -> Gains:
        return with_boost(inputs, self.boosted_layers(inputs), self.gain)


@dataclass(frozen=True)
class BottomNorm:
    """Control: as many layers as TopNorm boosts, but those of smallest norm among the layers with an update."""

    gain: float = 1.75
    share: float = 0.25

    def __call__(self, inputs: PolicyInputs) -> Gains:
        updated = int((inputs.norms > 0).sum())
        largest_first = inputs.norms.argsort(descending=True, stable=True)[:updated]
        count = boosted_count(inputs.norms, self.share)
        return with_boost(inputs, largest_first[updated - count :], self.gain)


@dataclass(frozen=True)
class RandomLayers:
    """Control: as many layers as TopNorm boosts, drawn at random among the layers with an update."""

    gain: float = 1.75
    share: float = 0.25

    def boosted_layers(self, inputs: PolicyInputs) -> Int[Tensor, " boosted"]:
        """Indices of the boosted layers; the same seed draws the same layers."""
        updated = (inputs.norms > 0).nonzero().flatten()
        order = torch.randperm(len(updated), generator=torch.Generator().manual_seed(inputs.seed))
        return updated[order[: boosted_count(inputs.norms, self.share)]]

    def __call__(self, inputs: PolicyInputs) -> Gains:
        return with_boost(inputs, self.boosted_layers(inputs), self.gain)


@dataclass(frozen=True)
class RandomMatched:
    """Control: the layers that RandomLayers draws, with the gain at which the added norm equals TopNorm's.

    Added norm: sqrt(sum over boosted layers of ((gain - 1) * norm)^2), in weight units.
    """

    gain: float = 1.75
    share: float = 0.25

    def __call__(self, inputs: PolicyInputs) -> Gains:
        top = inputs.norms[TopNorm(self.gain, self.share).boosted_layers(inputs)]
        drawn = RandomLayers(self.gain, self.share).boosted_layers(inputs)
        if not len(drawn):
            return torch.ones_like(inputs.norms)
        ratio = torch.linalg.norm(top) / torch.linalg.norm(inputs.norms[drawn])
        return with_boost(inputs, drawn, 1 + (self.gain - 1) * ratio.item())


def with_boost(inputs: PolicyInputs, layers: Int[Tensor, " boosted"], gain: float) -> Gains:
    """`gain` at some layers, 1 at the others."""
    gains = torch.ones_like(inputs.norms)
    gains[layers] = gain
    return gains
