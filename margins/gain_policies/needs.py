"""What a policy needs to know of a question, and where that cannot be had."""

from __future__ import annotations

import math
from collections.abc import Iterator

from override_gap.margins.gain_policies.by_effect import PROBE_GAIN, EffectGated, EffectLayers, OverlapScaled
from override_gap.margins.gain_policies.by_norm import PerLayer
from override_gap.margins.gain_policies.by_question import ConflictAware, MarginMatched, RelevanceGate
from override_gap.margins.gain_policies.gates import Gated
from override_gap.margins.gain_policies.inputs import Policy, PolicyInputs

ANSWER = (
    "the policy needs the answer that the document states; no conflict or novel item names it, and the document holds what the "
    "base says here"
)
MARGINS = "the policy needs the margins of a question that the document answers; no conflict or novel item asks one"
EFFECT = "the policy needs the adapter's effect on the question; at its probe gain the model's logits are not finite"
LAYERS = "the policy needs the effect of every layer, and those that were read do not add up to that of the adapter"


def parts(policy: Policy) -> Iterator[Policy]:
    """A policy, and those that it is made of."""
    yield policy
    match policy:
        case ConflictAware(otherwise=inner) | RelevanceGate(inner=inner) | Gated(inner=inner):
            yield from parts(inner)


def looks_at_question(policy: Policy) -> bool:
    """Whether a policy may give two questions of one document different gains."""
    looking = ConflictAware | EffectGated | EffectLayers | Gated | MarginMatched | OverlapScaled | RelevanceGate
    return any(isinstance(part, looking) for part in parts(policy))


def probe_gain(policy: Policy) -> float | None:
    """The uniform gain of the extra pass in which a policy reads the adapter's effect; None where it reads none."""
    return PROBE_GAIN if any(isinstance(part, EffectGated) or _asks_effect(part) for part in parts(policy)) else None


def needs_layer_effects(policy: Policy) -> bool:
    """Whether a policy reads the effect of every layer, which takes backward passes."""
    return any(isinstance(part, EffectLayers) for part in parts(policy))


def given_gains(policy: Policy) -> int | None:
    """For how many layers a policy gives gains one by one, whatever the model; None where it gives none so."""
    return next((len(part.gains) for part in parts(policy) if isinstance(part, PerLayer)), None)


def reads_answer(policy: Policy) -> bool:
    """Whether a policy asks if the base already says what the document states."""
    return any(
        isinstance(part, ConflictAware) or (isinstance(part, Gated) and part.disagrees) for part in parts(policy)
    )


def reads_words(policy: Policy) -> bool:
    """Whether a policy compares the words of question and document."""
    return any(
        isinstance(part, RelevanceGate | OverlapScaled)
        or (isinstance(part, EffectGated) and part.by_overlap)
        or (isinstance(part, Gated) and part.relevant)
        for part in parts(policy)
    )


def refusal(policy: Policy, inputs: PolicyInputs) -> str | None:
    """Why a policy cannot set its gains for a question, from what is known in use; None where it can."""
    match policy:
        case EffectGated() if not math.isfinite(inputs.effect + inputs.lead):
            return EFFECT
        case EffectLayers() if inputs.layer_effects is None:
            return LAYERS
        case MarginMatched() if not (math.isfinite(inputs.prior_margin) and math.isfinite(inputs.adapter_margin)):
            return MARGINS
        case ConflictAware(threshold=threshold, otherwise=otherwise):
            sure = inputs.base_top_prob > threshold
            if sure and inputs.base_says_document is None:
                return ANSWER
            return None if sure and not inputs.base_says_document else refusal(otherwise, inputs)
        case RelevanceGate(inner=inner) if inputs.relevant:
            return refusal(inner, inputs)
        case Gated(inner=inner):
            if _asks_effect(policy) and not math.isfinite(inputs.effect):
                return EFFECT
            if not policy.opens(inputs):
                return None
            unknown = policy.disagrees and inputs.base_says_document is None
            return ANSWER if unknown else refusal(inner, inputs)
    return None


def _asks_effect(policy: Policy) -> bool:
    return isinstance(policy, Gated) and policy.effect is not None
