"""Policies that look at the question: what the base says of it, whether the document touches it, what the adapter does to it.

Sources: CA from arXiv 2604.23750; the others are this toolkit's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from override_gap.margins.gain_policies.by_norm import DELIVERED, TopNorm
from override_gap.margins.gain_policies.inputs import Gains, Policy, PolicyInputs


@dataclass(frozen=True)
class ConflictAware:
    """CA, Conflict-Aware Internalization: boost where the base is confident and disagrees with the document."""

    gain: float = 2.0
    share: float = 1 / 3
    threshold: float = 0.5
    otherwise: Policy = DELIVERED

    def __call__(self, inputs: PolicyInputs) -> Gains:
        conflict = inputs.base_top_prob > self.threshold and not inputs.base_says_document
        return TopNorm(self.gain, self.share)(inputs) if conflict else self.otherwise(inputs)


@dataclass(frozen=True)
class RelevanceGate:
    """Gain 0 where the document is not relevant to the question, otherwise another policy."""

    inner: Policy = DELIVERED

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
