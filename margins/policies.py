"""Amplitude: how loud an adapter plays, as one gain a layer.

W(s) = W_base + s * (W_adapted - W_base) on the effective weights: gain 0 is the base exactly, gain 1 the method as
delivered. A policy maps a `PolicyInputs` to a vector of gains; it runs no model.
Sources: SLB and CA from arXiv 2604.23750; the controls are this toolkit's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Gains = Float[Tensor, " layer"]


@dataclass(frozen=True)
class PolicyInputs:
    """What a policy may know of one item before it sets the gains."""

    norms: Float[Tensor, " layer"]
    base_top_prob: float = 0.0
    base_says_document: bool = False
    relevant: bool = True
    prior_margin: float = math.nan
    adapter_margin: float = math.nan
    seed: int = 0


@runtime_checkable
class Policy(Protocol):
    """Settings at construction, a situation at the call."""

    def __call__(self, situation: PolicyInputs) -> Gains:
        """One gain a layer."""
        ...


def chosen_count(norms: Float[Tensor, " layer"], share: float) -> int:
    """How many layers a share means: of the layers the adapter touches, to the nearest whole number, at least one."""
    touched = int((norms > 0).sum())
    return max(1, math.floor(share * touched + 0.5)) if touched else 0


@dataclass(frozen=True)
class Uniform:
    """All layers alike."""

    gain: float

    def __call__(self, situation: PolicyInputs) -> Gains:
        return torch.full_like(situation.norms, self.gain)


@dataclass(frozen=True)
class TopNorm:
    """SLB, Selective Layer Boosting: the layers of largest Frobenius norm at `gain`, the others as delivered."""

    gain: float = 1.75
    share: float = 0.25

    def chosen(self, situation: PolicyInputs) -> Tensor:
        """Indices of the boosted layers."""
        return situation.norms.argsort(descending=True, stable=True)[: chosen_count(situation.norms, self.share)]

    def __call__(self, situation: PolicyInputs) -> Gains:
        return _boosted(situation, self.chosen(situation), self.gain)


@dataclass(frozen=True)
class BottomNorm:
    """Control: as many layers as TopNorm boosts, but those of smallest norm among the ones the adapter touches."""

    gain: float = 1.75
    share: float = 0.25

    def __call__(self, situation: PolicyInputs) -> Gains:
        touched = int((situation.norms > 0).sum())
        order = situation.norms.argsort(descending=True, stable=True)[:touched]
        count = chosen_count(situation.norms, self.share)
        return _boosted(situation, order[touched - count :], self.gain)


@dataclass(frozen=True)
class RandomLayers:
    """Control: as many layers as TopNorm boosts, drawn at random among those the adapter touches."""

    gain: float = 1.75
    share: float = 0.25

    def chosen(self, situation: PolicyInputs) -> Tensor:
        """Indices of the boosted layers; the same seed draws the same layers."""
        touched = (situation.norms > 0).nonzero().flatten()
        draw = torch.randperm(len(touched), generator=torch.Generator().manual_seed(situation.seed))
        return touched[draw[: chosen_count(situation.norms, self.share)]]

    def __call__(self, situation: PolicyInputs) -> Gains:
        return _boosted(situation, self.chosen(situation), self.gain)


@dataclass(frozen=True)
class RandomMatched:
    """Control: RandomLayers' draw, its gain set so that the added norm equals TopNorm's.

    Added norm: sqrt(sum over boosted layers of ((gain - 1) * norm)^2), in weight units.
    """

    gain: float = 1.75
    share: float = 0.25

    def __call__(self, situation: PolicyInputs) -> Gains:
        top = situation.norms[TopNorm(self.gain, self.share).chosen(situation)]
        drawn = RandomLayers(self.gain, self.share).chosen(situation)
        if not len(drawn):
            return torch.ones_like(situation.norms)
        ratio = torch.linalg.norm(top) / torch.linalg.norm(situation.norms[drawn])
        return _boosted(situation, drawn, 1 + (self.gain - 1) * ratio.item())


@dataclass(frozen=True)
class ConflictAware:
    """CA, Conflict-Aware Internalization: boost harder where the base is confident and disagrees with the document."""

    gain: float = 2.0
    share: float = 1 / 3
    threshold: float = 0.5
    otherwise: Policy = Uniform(1.0)

    def __call__(self, situation: PolicyInputs) -> Gains:
        conflict = situation.base_top_prob > self.threshold and not situation.base_says_document
        return TopNorm(self.gain, self.share)(situation) if conflict else self.otherwise(situation)


@dataclass(frozen=True)
class RelevanceGate:
    """Gain 0 where the document does not touch the question, otherwise another policy."""

    inner: Policy = Uniform(1.0)

    def __call__(self, situation: PolicyInputs) -> Gains:
        return self.inner(situation) if situation.relevant else torch.zeros_like(situation.norms)


@dataclass(frozen=True)
class MarginMatched:
    """The least uniform gain whose predicted net margin reaches `headroom` nats, from the two margins alone.

    gain = (prior margin + headroom) / adapter margin, kept within [0, highest]; as delivered where the margins are
    unknown, `highest` where the adapter pushes the wrong way (no gain is predicted to help).
    """

    headroom: float = 2.0
    highest: float = 3.0

    def __call__(self, situation: PolicyInputs) -> Gains:
        prior, adapter = situation.prior_margin, situation.adapter_margin
        if not (math.isfinite(prior) and math.isfinite(adapter)):
            return torch.ones_like(situation.norms)
        gain = (prior + self.headroom) / adapter if adapter > 0 else self.highest
        return torch.full_like(situation.norms, min(max(gain, 0.0), self.highest))


def _boosted(situation: PolicyInputs, chosen: Tensor, gain: float) -> Gains:
    gains = torch.ones_like(situation.norms)
    gains[chosen] = gain
    return gains
