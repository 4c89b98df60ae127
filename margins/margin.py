"""Margins: who wins between the prior answer and the document's answer, in nats.

Source of the definitions: arXiv 2604.23750 (D_prior, D_lora), with push and pull kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def answer_margin(
    logits: Float[Tensor, "batch vocab"], wanted: Int[Tensor, " batch"], rival: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Log-odds of the wanted answer over its rival, in nats; positive means wanted wins.

    m = z[wanted] - z[rival]. The softmax normaliser cancels, so raw logits are enough.
    """
    both = logits.gather(-1, torch.stack([wanted, rival], dim=-1))
    return both[:, 0] - both[:, 1]


@dataclass(frozen=True)
class Margins:
    """The margins of a batch at the first differing token, from the two logits of base f and adapted model g.

    Logits are in nats after any cap the model applies. With y_pre the prior and y_doc the document's answer:
    prior margin   = f(y_pre) - f(y_doc)
    push           = g(y_doc) - f(y_doc),  pull = g(y_pre) - f(y_pre)
    adapter margin = push - pull
    net margin     = adapter margin - prior margin = g(y_doc) - g(y_pre); the override criterion is net margin > 0.
    """

    base_pre: Float[Tensor, " batch"]
    base_doc: Float[Tensor, " batch"]
    adapted_pre: Float[Tensor, " batch"]
    adapted_doc: Float[Tensor, " batch"]

    @property
    def prior(self) -> Float[Tensor, " batch"]:
        """Prior margin, nats: how far the base prefers its own answer."""
        return self.base_pre - self.base_doc

    @property
    def push(self) -> Float[Tensor, " batch"]:
        """What the adapter adds to the document's answer, nats."""
        return self.adapted_doc - self.base_doc

    @property
    def pull(self) -> Float[Tensor, " batch"]:
        """What the adapter adds to the prior answer, nats; negative pulls it down."""
        return self.adapted_pre - self.base_pre

    @property
    def adapter(self) -> Float[Tensor, " batch"]:
        """Adapter margin, nats: M_f - M_g = push - pull."""
        return self.push - self.pull

    @property
    def net(self) -> Float[Tensor, " batch"]:
        """Net margin, nats: -M_g, read from the adapted model alone so that no rounding of f enters."""
        return self.adapted_doc - self.adapted_pre


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """Logits after a soft cap, cap * tanh(z / cap), as Gemma 2 applies it; unchanged without a cap."""
    return logits if cap is None else cap * torch.tanh(logits / cap)


def sequence_logprob(logprobs: Float[Tensor, "pos vocab"], answer: Int[Tensor, " pos"]) -> Float[Tensor, ""]:
    """Prior strength: log P(answer | question), nats, summed over the answer's tokens; row i predicts token i."""
    return logprobs.gather(-1, answer[:, None]).sum()
