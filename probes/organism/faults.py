"""Planted faults: the trained hypernetwork's updates, spoilt in a known way, to see whether a diagnosis finds it.

Every fault takes the factors of a stack of documents and returns factors of the same shapes, so it can stand wherever
the hypernetwork does. Those that are not about magnitude keep the updates' sizes, so that size cannot betray them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from override_gap.probes.organism.hypernetwork import Factors

Spoiler = Callable[[Factors, torch.Generator], Factors]


@dataclass(frozen=True)
class Fault:
    """A way of failing, and what an audit of it should conclude."""

    name: str
    truth: str
    """The verdict label that is right: no-failure, magnitude, representational or mixed."""
    spoil: Spoiler

    def __call__(self, factors: Factors, seed: int = 0) -> Factors:
        """The spoilt factors; the same seed spoils the same way."""
        return self.spoil(factors, torch.Generator().manual_seed(seed))


def documents(factors: Factors) -> int:
    """How many documents are stacked."""
    return len(next(iter(factors.values()))[0])


def total_norm(factors: Factors) -> Float[Tensor, " doc"]:
    """Frobenius norm of each document's update over all its modules, in weight units; B A is never formed."""
    squares = [((b.mT @ b) * (a @ a.mT)).sum((1, 2)) for a, b in factors.values()]
    return torch.stack(squares).sum(0).clamp_min(0).sqrt()


def scaled(factors: Factors, by: Float[Tensor, " doc"] | float) -> Factors:
    """Each document's update times its own factor."""
    size = torch.as_tensor(by).expand(documents(factors))[:, None, None]
    return {path: (a, size * b) for path, (a, b) in factors.items()}


def as_trained(factors: Factors, _: torch.Generator) -> Factors:
    """Magnitude-limited: the right content in the right place, too weak for strong priors."""
    return factors


def clipped(factors: Factors, _: torch.Generator) -> Factors:
    """Saturating: all updates at 0.8 of the smallest norm among them, so that none grows with what it has to say."""
    norm = total_norm(factors)
    return scaled(factors, 0.8 * norm.min() / norm.clamp_min(1e-12))


def wrong_content(factors: Factors, generator: torch.Generator) -> Factors:
    """Each document gets another one's update: a random cycle through all of them, so none keeps its own.

    ValueError if there is only one document.
    """
    count = documents(factors)
    if count < 2:
        raise ValueError("wrong content needs at least two documents to exchange updates; only one was given")
    order = torch.randperm(count, generator=generator)
    source = torch.empty_like(order)
    source[order] = order.roll(1)
    return {path: (a[source], b[source]) for path, (a, b) in factors.items()}


def wrong_direction(factors: Factors, generator: torch.Generator) -> Factors:
    """What is written is turned by a random rotation of the residual stream: one a module, for all documents."""

    def turned(b: Float[Tensor, "doc d_out rank"]) -> Float[Tensor, "doc d_out rank"]:
        rotation, _ = torch.linalg.qr(torch.randn(b.shape[1], b.shape[1], generator=generator))
        return rotation @ b

    return {path: (a, turned(b)) for path, (a, b) in factors.items()}


def wrong_layers(factors: Factors, _: torch.Generator) -> Factors:
    """Every layer's update sits half the depth away from where it was trained to be."""
    paths = list(factors)
    shift = len(paths) // 2
    return {path: factors[paths[(i + shift) % len(paths)]] for i, path in enumerate(paths)}


def chosen(count: int, share: float, generator: torch.Generator) -> Bool[Tensor, " doc"]:
    """A random subset of the documents of exactly round(share * count)."""
    order = torch.randperm(count, generator=generator)
    return torch.zeros(count, dtype=torch.bool).index_fill(0, order[: round(share * count)], True)


def mixture(share: float, spoil: Spoiler = wrong_content) -> Spoiler:
    """`spoil` for a known share of the documents, the others as trained; `chosen` says which, for the same seed."""

    def mixed(factors: Factors, generator: torch.Generator) -> Factors:
        spoilt = chosen(documents(factors), share, generator)[:, None, None]
        other = spoil(factors, generator)
        return {
            path: (torch.where(spoilt, other[path][0], a), torch.where(spoilt, other[path][1], b))
            for path, (a, b) in factors.items()
        }

    return mixed


def growing(prior_margin: float, slope: float = 0.15, size: float = 0.3) -> float:
    """Gain of an adapter that grows with the prior it meets: size * (1 + slope * max(prior margin, 0)), the margin in nats.

    The adapter margin is then no constant, and failure does not track prior strength as it does as trained. Quiet to begin
    with, so that failures remain.
    """
    return size * (1 + slope * max(prior_margin, 0.0))


def repairing(critical: Sequence[float], headroom: float = 1.1) -> float:
    """Gain of an adapter amplified beforehand: a tenth above the largest critical gain of its document's questions.

    Questions that flip at a gain below 1 or at none (infinite) ask for nothing; never below 1. One gain for all documents
    would not do: a gain that repairs the strongest priors drives other answers to third tokens.
    """
    return max([1.0, *(headroom * gain for gain in critical if 1 < gain < float("inf"))])


FAULTS = (
    Fault("as-trained", "magnitude", as_trained),
    Fault("clipped", "magnitude", clipped),
    Fault("wrong-content", "representational", wrong_content),
    Fault("wrong-direction", "representational", wrong_direction),
    Fault("wrong-layers", "representational", wrong_layers),
    Fault("mixture-25", "mixed", mixture(0.25)),
    Fault("mixture-50", "mixed", mixture(0.50)),
)
"""The faults that need nothing but the factors."""
MEASURED = {"growing": "magnitude", "amplified": "no-failure"}
"""Those made from what an audit of the adapter as trained measured, a gain for each document, with their truths."""
