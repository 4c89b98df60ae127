"""What a policy is: a function from what is known of a question in use to one gain per layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Gains = Float[Tensor, " layer"]


@dataclass(frozen=True)
class PolicyInputs:
    """What a policy may depend on: one item's adapter norms per layer, base readings, margins and effect, and a seed.

    Only what is known in use enters, where a question comes without its answer; what is read of the model is read at the
    last token of the question as asked. `base_says_document`: the base's most probable token begins the answer which the
    document states; None where that answer is not known. The margins, nats, are those of a question that the document
    answers, NaN where the run has none. `overlap`: the share of the question's content words that the document contains.
    `effect` and `lead`: what the adapter does to this question at the policy's `probe_gain`, nats per unit of gain, and by how
    much the base prefers its own token to the one that the adapter raises, nats (`margins/effect.py`); NaN where they were not
    read. `layer_effects`: the same effect as delivered, split over the layers, nats (`probes/readings/gain_path.py`), None
    where it was not read. `refusal` says where that is too little.
    """

    norms: Float[Tensor, " layer"]
    base_top_prob: float = 0.0
    base_says_document: bool | None = False
    relevant: bool = True
    prior_margin: float = math.nan
    adapter_margin: float = math.nan
    seed: int = 0
    effect: float = math.nan
    lead: float = math.nan
    overlap: float = math.nan
    layer_effects: Float[Tensor, " layer"] | None = None


@runtime_checkable
class Policy(Protocol):
    """Any function of `PolicyInputs`; its settings are fixed when it is made."""

    def __call__(self, inputs: PolicyInputs) -> Gains:
        """One gain per layer."""
        ...
