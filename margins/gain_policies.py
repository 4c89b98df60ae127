"""Policies: how strongly an adapter is applied, as one gain per layer.

W(s) = W_base + s * (W_adapted - W_base) on the effective weights: gain 0 is the base exactly, gain 1 the adapter as
delivered. A policy maps `PolicyInputs` to a vector of gains; it runs no model.
Sources: SLB and CA from arXiv 2604.23750; the controls are this toolkit's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Gains = Float[Tensor, " layer"]


@dataclass(frozen=True)
class PolicyInputs:
    """What a policy may depend on: one item's adapter norms per layer, base readings, margins in nats, and a seed.

    Only what is known in use enters, where a question comes without its answer. `base_says_document`: the base's most
    probable token is that of the answer which the document states; None where that answer is not known. The margins are
    those of a question that the document answers, NaN where the run has none. `refusal` says where that is too little.
    """

    norms: Float[Tensor, " layer"]
    base_top_prob: float = 0.0
    base_says_document: bool | None = False
    relevant: bool = True
    prior_margin: float = math.nan
    adapter_margin: float = math.nan
    seed: int = 0


@runtime_checkable
class Policy(Protocol):
    """Any function of `PolicyInputs`; its settings are fixed when it is made."""

    def __call__(self, inputs: PolicyInputs) -> Gains:
        """One gain per layer."""
        ...


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


@dataclass(frozen=True)
class TopNorm:
    """SLB, Selective Layer Boosting: the layers of largest Frobenius norm at `gain`, the others as delivered."""

    gain: float = 1.75
    share: float = 0.25

    def boosted_layers(self, inputs: PolicyInputs) -> Int[Tensor, " boosted"]:
        """Indices of the boosted layers."""
        return inputs.norms.argsort(descending=True, stable=True)[: boosted_count(inputs.norms, self.share)]

    def __call__(self, inputs: PolicyInputs) -> Gains:
        return _with_boost(inputs, self.boosted_layers(inputs), self.gain)


@dataclass(frozen=True)
class BottomNorm:
    """Control: as many layers as TopNorm boosts, but those of smallest norm among the layers with an update."""

    gain: float = 1.75
    share: float = 0.25

    def __call__(self, inputs: PolicyInputs) -> Gains:
        updated = int((inputs.norms > 0).sum())
        largest_first = inputs.norms.argsort(descending=True, stable=True)[:updated]
        count = boosted_count(inputs.norms, self.share)
        return _with_boost(inputs, largest_first[updated - count :], self.gain)


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
        return _with_boost(inputs, self.boosted_layers(inputs), self.gain)


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
        return _with_boost(inputs, drawn, 1 + (self.gain - 1) * ratio.item())


@dataclass(frozen=True)
class ConflictAware:
    """CA, Conflict-Aware Internalization: boost where the base is confident and disagrees with the document."""

    gain: float = 2.0
    share: float = 1 / 3
    threshold: float = 0.5
    otherwise: Policy = Uniform(1.0)

    def __call__(self, inputs: PolicyInputs) -> Gains:
        conflict = inputs.base_top_prob > self.threshold and not inputs.base_says_document
        return TopNorm(self.gain, self.share)(inputs) if conflict else self.otherwise(inputs)


@dataclass(frozen=True)
class RelevanceGate:
    """Gain 0 where the document is not relevant to the question, otherwise another policy."""

    inner: Policy = Uniform(1.0)

    def __call__(self, inputs: PolicyInputs) -> Gains:
        return self.inner(inputs) if inputs.relevant else torch.zeros_like(inputs.norms)


@dataclass(frozen=True)
class MarginMatched:
    """The smallest uniform gain at which the predicted net margin is `headroom` nats, from the two margins alone.

    gain = (prior margin + headroom) / adapter margin, clamped to [0, highest]; `highest` where the adapter margin is not
    positive, so that no gain is predicted to help. Where a margin is unknown it is no policy (`refusal`); the gain is 1.
    """

    headroom: float = 2.0
    highest: float = 3.0

    def __call__(self, inputs: PolicyInputs) -> Gains:
        prior, adapter = inputs.prior_margin, inputs.adapter_margin
        if not (math.isfinite(prior) and math.isfinite(adapter)):
            return torch.ones_like(inputs.norms)
        gain = (prior + self.headroom) / adapter if adapter > 0 else self.highest
        return torch.full_like(inputs.norms, min(max(gain, 0.0), self.highest))


def refusal(policy: Policy, inputs: PolicyInputs) -> str | None:
    """Why a policy cannot set its gains for a question, from what is known in use; None where it can."""
    match policy:
        case MarginMatched() if not (math.isfinite(inputs.prior_margin) and math.isfinite(inputs.adapter_margin)):
            return "the policy needs the margins of a question that the document answers; no conflict or novel item asks one"
        case ConflictAware(threshold=threshold) if inputs.base_top_prob > threshold:
            if inputs.base_says_document is None:
                return (
                    "the policy needs the answer that the document states; no conflict or novel item names it, and the "
                    "document holds what the base says here"
                )
        case ConflictAware(otherwise=otherwise):
            return refusal(otherwise, inputs)
        case RelevanceGate(inner=inner) if inputs.relevant:
            return refusal(inner, inputs)
    return None


def _with_boost(inputs: PolicyInputs, layers: Int[Tensor, " boosted"], gain: float) -> Gains:
    """`gain` at some layers, 1 at the others."""
    gains = torch.ones_like(inputs.norms)
    gains[layers] = gain
    return gains
