"""Policies: how strongly an adapter is applied, as one gain per layer.

W(s) = W_base + s * (W_adapted - W_base) on the effective weights: gain 0 is the base exactly, gain 1 the adapter as
delivered. A policy maps `PolicyInputs` to a vector of gains; it runs no model.
"""

from override_gap.margins.gain_policies.by_effect import EffectGated, EffectLayers, OverlapScaled
from override_gap.margins.gain_policies.by_norm import (
    BottomNorm,
    PerLayer,
    RandomLayers,
    RandomMatched,
    TopNorm,
    Uniform,
    boosted_count,
)
from override_gap.margins.gain_policies.by_question import ConflictAware, MarginMatched, RelevanceGate
from override_gap.margins.gain_policies.gates import Gated
from override_gap.margins.gain_policies.inputs import Gains, Policy, PolicyInputs
from override_gap.margins.gain_policies.needs import (
    given_gains,
    looks_at_question,
    needs_layer_effects,
    probe_gain,
    reads_answer,
    reads_words,
    refusal,
)

__all__ = [
    "BottomNorm",
    "ConflictAware",
    "EffectGated",
    "EffectLayers",
    "Gains",
    "Gated",
    "MarginMatched",
    "OverlapScaled",
    "PerLayer",
    "Policy",
    "PolicyInputs",
    "RandomLayers",
    "RandomMatched",
    "RelevanceGate",
    "TopNorm",
    "Uniform",
    "boosted_count",
    "given_gains",
    "looks_at_question",
    "needs_layer_effects",
    "probe_gain",
    "reads_answer",
    "reads_words",
    "refusal",
]
