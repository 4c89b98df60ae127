"""Policies: how strongly an adapter is applied, as one gain per layer.

W(s) = W_base + s * (W_adapted - W_base) on the effective weights: gain 0 is the base exactly, gain 1 the adapter as
delivered. A policy maps `PolicyInputs` to a vector of gains; it runs no model.
"""

from override_gap.margins.gain_policies.by_norm import (
    BottomNorm,
    RandomLayers,
    RandomMatched,
    TopNorm,
    Uniform,
    boosted_count,
)
from override_gap.margins.gain_policies.by_question import ConflictAware, EffectGated, MarginMatched, RelevanceGate
from override_gap.margins.gain_policies.inputs import Gains, Policy, PolicyInputs
from override_gap.margins.gain_policies.needs import looks_at_question, probe_gain, refusal

__all__ = [
    "BottomNorm",
    "ConflictAware",
    "EffectGated",
    "Gains",
    "MarginMatched",
    "Policy",
    "PolicyInputs",
    "RandomLayers",
    "RandomMatched",
    "RelevanceGate",
    "TopNorm",
    "Uniform",
    "boosted_count",
    "looks_at_question",
    "probe_gain",
    "refusal",
]
