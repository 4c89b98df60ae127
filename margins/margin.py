"""Margins: how far one answer leads the other, the old answer against the document's, in nats.

Source of the definitions: arXiv 2604.23750 (D_prior, D_lora), with push and pull kept apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Margins:
    """The margins of a batch at the first differing token, from two logits each of base f and adapted model g.

    Logits are in nats, after any cap that the model applies. With y_pre the old answer and y_doc the document's:
    prior margin   = f(y_pre) - f(y_doc)
    push           = g(y_doc) - f(y_doc),  pull = g(y_pre) - f(y_pre)
    adapter margin = push - pull
    net margin     = adapter margin - prior margin = g(y_doc) - g(y_pre); the override criterion is net margin > 0.
    A difference of logits is one of log-probabilities, since the softmax normaliser cancels.
    """

    base_pre: Float[Tensor, " batch"]
    base_doc: Float[Tensor, " batch"]
    adapted_pre: Float[Tensor, " batch"]
    adapted_doc: Float[Tensor, " batch"]

    @classmethod
    def read(
        cls,
        f: Callable[[Int[Tensor, " batch"]], Float[Tensor, " batch"]],
        g: Callable[[Int[Tensor, " batch"]], Float[Tensor, " batch"]],
        pre: Int[Tensor, " batch"],
        doc: Int[Tensor, " batch"],
    ) -> Margins:
        """The margins between tokens `pre` and `doc`; f and g give the logit of one token per row."""
        return cls(f(pre), f(doc), g(pre), g(doc))

    @property
    def prior(self) -> Float[Tensor, " batch"]:
        """Prior margin, nats: how far the base prefers the old answer."""
        return self.base_pre - self.base_doc

    @property
    def push(self) -> Float[Tensor, " batch"]:
        """What the adapter adds to the document's answer, nats."""
        return self.adapted_doc - self.base_doc

    @property
    def pull(self) -> Float[Tensor, " batch"]:
        """What the adapter adds to the old answer, nats; negative lowers it."""
        return self.adapted_pre - self.base_pre

    @property
    def adapter(self) -> Float[Tensor, " batch"]:
        """Adapter margin, nats: push - pull."""
        return self.push - self.pull

    @property
    def net(self) -> Float[Tensor, " batch"]:
        """Net margin, nats, read from the adapted model alone, so that no rounding of f enters."""
        return self.adapted_doc - self.adapted_pre


def token_logit(logits: Float[Tensor, "batch vocab"], tokens: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The logit of one token per row, in the units of `logits`."""
    return logits.gather(-1, tokens[:, None])[:, 0]


def capped(logits: Float[Tensor, "*batch"], cap: float | None) -> Float[Tensor, "*batch"]:
    """Logits after a soft cap, cap * tanh(z / cap), as Gemma 2 applies it; unchanged without a cap."""
    return logits if cap is None else cap * torch.tanh(logits / cap)
