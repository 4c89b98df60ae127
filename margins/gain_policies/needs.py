"""What a policy needs to know of a question, and where that cannot be had."""

from __future__ import annotations

import math

from override_gap.margins.gain_policies.by_question import ConflictAware, EffectGated, MarginMatched, RelevanceGate
from override_gap.margins.gain_policies.inputs import Policy, PolicyInputs


def looks_at_question(policy: Policy) -> bool:
    """Whether a policy may give two questions of one document different gains."""
    return isinstance(policy, ConflictAware | EffectGated | MarginMatched | RelevanceGate)


def probe_gain(policy: Policy) -> float | None:
    """The uniform gain of the extra pass in which a policy reads the adapter's effect; None where it reads none."""
    match policy:
        case EffectGated(probe_gain=gain):
            return gain
        case ConflictAware(otherwise=inner) | RelevanceGate(inner=inner):
            return probe_gain(inner)
    return None


def refusal(policy: Policy, inputs: PolicyInputs) -> str | None:
    """Why a policy cannot set its gains for a question, from what is known in use; None where it can."""
    match policy:
        case EffectGated() if not math.isfinite(inputs.effect):
            return "the policy needs the adapter's effect on the question; at its probe gain the model's logits are not finite"
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
