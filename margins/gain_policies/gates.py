"""Gates apart from gains: a policy where a question is of one kind, the adapter as delivered where it is not.

CA is a gate and a choice of layers together; with the two apart it is seen which of them does the work.
"""

from __future__ import annotations

from dataclasses import dataclass

from override_gap.margins.gain_policies.by_norm import DELIVERED
from override_gap.margins.gain_policies.inputs import Gains, Policy, PolicyInputs

#: Confident: the base's first token is more probable than this (CA's threshold).
CONFIDENT = 0.5
#: Nats per unit of gain: on the organism 93% of conflicts have a larger effect, and 8% of unrelated questions.
EFFECT = 4.0


@dataclass(frozen=True)
class Gated:
    """`inner` where every part of the gate holds, else the adapter as delivered.

    Parts: the base is more `confident` than this; the base `disagrees` with the document (its first token does not begin the
    document's answer); question and document share words (`relevant`); the adapter's `effect` is above this, nats.
    None and False: not asked.
    """

    inner: Policy
    confident: float | None = None
    disagrees: bool = False
    relevant: bool = False
    effect: float | None = None

    def opens(self, inputs: PolicyInputs) -> bool:
        """Whether the gate is open; an answer that is not known leaves it open, and `refusal` says so."""
        return (
            (self.confident is None or inputs.base_top_prob > self.confident)
            and not (self.disagrees and inputs.base_says_document)
            and (not self.relevant or inputs.relevant)
            and not (self.effect is not None and inputs.effect <= self.effect)
        )

    def __call__(self, inputs: PolicyInputs) -> Gains:
        return (self.inner if self.opens(inputs) else DELIVERED)(inputs)


def gate(name: str, inner: Policy, threshold: float | None = None) -> Gated | None:
    """The gate of this name in front of a policy; None where there is no such gate, or where it has no threshold to set."""
    confident = CONFIDENT if threshold is None else threshold
    match name:
        case "if-confident":
            return Gated(inner, confident=confident)
        case "if-conflict":
            return Gated(inner, confident=confident, disagrees=True)
        case "if-effect":
            return Gated(inner, effect=EFFECT if threshold is None else threshold)
        case "if-disagrees" if threshold is None:
            return Gated(inner, disagrees=True)
        case "if-relevant" if threshold is None:
            return Gated(inner, relevant=True)
    return None
