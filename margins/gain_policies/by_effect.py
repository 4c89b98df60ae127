"""Policies by the adapter's own effect on the question, which is read in one pass more and needs no answer; and controls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from override_gap.margins.gain_policies.by_norm import boosted_count, with_boost
from override_gap.margins.gain_policies.inputs import Gains, PolicyInputs

#: The uniform gain at which the effect is read; the gains below were chosen with it, and another one loses by it.
PROBE_GAIN = 1.5
#: Nats per unit of gain at which `gain` is reached, where the document holds every word: the organism's median conflict.
REFERENCE = 7.5


@dataclass(frozen=True)
class EffectGated:
    """One gain for all layers: gain * sqrt(overlap * effect / REFERENCE), at most (lead + headroom) / effect and `highest`.

    (lead + headroom) / effect is the least uniform gain predicted to put the adapter's token first with `headroom` nats to
    spare: more is price without use. Without an effect, or where the document contains no word of the question, it is 0.
    Control: without `by_overlap` the overlap is taken as 1, so that the effect alone decides.
    """

    gain: float = 1.5
    headroom: float = 4.0
    highest: float = math.inf
    by_overlap: bool = True

    def __call__(self, inputs: PolicyInputs) -> Gains:
        effect, overlap = inputs.effect, inputs.overlap if self.by_overlap else 1.0
        if not math.isfinite(effect + inputs.lead + overlap):
            return torch.ones_like(inputs.norms)
        if effect <= 0 or overlap <= 0:
            return torch.zeros_like(inputs.norms)
        wanted = self.gain * math.sqrt(overlap * effect / REFERENCE)
        return torch.full_like(inputs.norms, min(wanted, (inputs.lead + self.headroom) / effect, self.highest))


@dataclass(frozen=True)
class OverlapScaled:
    """Control of EffectGated: the gain in proportion to the overlap of question and document alone, at most `highest`."""

    gain: float = 1.5
    highest: float = 3.0

    def __call__(self, inputs: PolicyInputs) -> Gains:
        overlap = inputs.overlap
        gain = min(self.gain * overlap, self.highest) if math.isfinite(overlap) else 1.0
        return torch.full_like(inputs.norms, gain)


@dataclass(frozen=True)
class EffectLayers:
    """The layers of largest effect on this question at `gain`, the others as delivered; as many as TopNorm boosts.

    Control: with `least` those of least effect among the layers with an update. (RandomLayers is another.)
    """

    gain: float = 1.75
    share: float = 0.25
    least: bool = False

    def boosted_layers(self, inputs: PolicyInputs) -> Int[Tensor, " boosted"]:
        """Indices of the boosted layers; none where the effects are unknown."""
        effects, updated = inputs.layer_effects, (inputs.norms > 0).nonzero().flatten()
        if effects is None:
            return updated[:0]
        order = effects[updated].argsort(descending=not self.least, stable=True)
        return updated[order[: boosted_count(inputs.norms, self.share)]]

    def __call__(self, inputs: PolicyInputs) -> Gains:
        return with_boost(inputs, self.boosted_layers(inputs), self.gain)
