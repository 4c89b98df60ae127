"""Planted faults: the trained hypernetwork's updates, corrupted in a known way, to test whether a diagnosis finds it.

Every fault maps the factors of a batch of documents to factors of the same shapes. Faults that are not about magnitude
keep the norms of the updates, so that they cannot be recognised by norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from override_gap.probes.organism.hypernetwork import Factors

Corruption = Callable[[Factors, torch.Generator], Factors]


@dataclass(frozen=True)
class Fault:
    """A known way to fail, and the verdict that an audit of it should reach."""

    name: str
    truth: str
    """The correct verdict label: no-failure, magnitude, representational or mixed."""
    corrupt: Corruption

    def __call__(self, factors: Factors, seed: int = 0) -> Factors:
        """The corrupted factors; the same seed gives the same corruption."""
        return self.corrupt(factors, torch.Generator().manual_seed(seed))


def document_count(factors: Factors) -> int:
    """Number of documents in the batch."""
    return len(next(iter(factors.values()))[0])


def total_norm(factors: Factors) -> Float[Tensor, " doc"]:
    """Frobenius norm of each document's update over all its modules, in weight units; B A is never formed."""
    squares = [((b.mT @ b) * (a @ a.mT)).sum((1, 2)) for a, b in factors.values()]
    return torch.stack(squares).sum(0).clamp_min(0).sqrt()


def scaled(factors: Factors, gain: Float[Tensor, " doc"] | float) -> Factors:
    """Each document's update times its own gain."""
    scale = torch.as_tensor(gain).expand(document_count(factors))[:, None, None]
    return {path: (a, scale * b) for path, (a, b) in factors.items()}


def as_trained(factors: Factors, _: torch.Generator) -> Factors:
    """Magnitude-limited: right content in the right layers, too weak against strong priors."""
    return factors


def clipped(factors: Factors, _: torch.Generator) -> Factors:
    """Saturating: every update scaled to 0.8 of the smallest norm among them, whatever its document."""
    norm = total_norm(factors)
    return scaled(factors, 0.8 * norm.min() / norm.clamp_min(1e-12))


def wrong_content(factors: Factors, generator: torch.Generator) -> Factors:
    """Each document gets another document's update: a random cycle through all, so none keeps its own.

    Raises ValueError where there is only one document.
    """
    count = document_count(factors)
    if count < 2:
        raise ValueError("wrong-content needs at least two documents to exchange updates, got one; use more items")
    order = torch.randperm(count, generator=generator)
    source = torch.empty_like(order)
    source[order] = order.roll(1)
    return {path: (a[source], b[source]) for path, (a, b) in factors.items()}


def wrong_direction(factors: Factors, generator: torch.Generator) -> Factors:
    """B is multiplied by a random rotation of the residual stream: one rotation per module, for all documents."""

    def rotated(b: Float[Tensor, "doc d_out rank"]) -> Float[Tensor, "doc d_out rank"]:
        rotation, _ = torch.linalg.qr(torch.randn(b.shape[1], b.shape[1], generator=generator))
        return rotation @ b

    return {path: (a, rotated(b)) for path, (a, b) in factors.items()}


def wrong_layers(factors: Factors, _: torch.Generator) -> Factors:
    """Every layer's update is applied half the depth away from the layer that it was trained for."""
    paths = list(factors)
    shift = len(paths) // 2
    return {path: factors[paths[(i + shift) % len(paths)]] for i, path in enumerate(paths)}


def random_subset(count: int, share: float, generator: torch.Generator) -> Bool[Tensor, " doc"]:
    """A random subset of exactly round(share * count) documents, as a mask."""
    order = torch.randperm(count, generator=generator)
    return torch.zeros(count, dtype=torch.bool).index_fill(0, order[: round(share * count)], True)


def mixture(share: float, corrupt: Corruption = wrong_content) -> Corruption:
    """`corrupt` applied to a known share of the documents, the others as trained; `random_subset` with the same seed says
    which."""

    def mixed(factors: Factors, generator: torch.Generator) -> Factors:
        corrupted = random_subset(document_count(factors), share, generator)[:, None, None]
        other = corrupt(factors, generator)
        return {
            path: (torch.where(corrupted, other[path][0], a), torch.where(corrupted, other[path][1], b))
            for path, (a, b) in factors.items()
        }

    return mixed


def growing_gain(prior_margin: float, slope: float = 0.15, size: float = 0.3) -> float:
    """A gain that grows with the prior: size * (1 + slope * max(prior margin, 0)), the margin in nats.

    The adapter margin is then not constant, and failure does not follow prior strength as it does for the adapter as trained.
    `size` is below 1, so that failures remain.
    """
    return size * (1 + slope * max(prior_margin, 0.0))


def repairing_gain(critical: Sequence[float], headroom: float = 1.1) -> float:
    """A gain that repairs a document's failures: `headroom` times the largest critical gain of its questions, at least 1.

    Questions whose critical gain is below 1 or infinite (never flips) have no influence. One gain for all documents would not
    work: a gain large enough for the strongest priors makes other questions answer a third token.
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
"""Faults that need only the factors."""
MEASURED_FAULTS = {"growing": "magnitude", "amplified": "no-failure"}
"""Faults made of one gain per document, from what an audit of the adapter as trained measured: name to correct verdict."""
