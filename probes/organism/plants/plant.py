"""Plant: adapters that are made to succeed or fail in a known way, with the label and the causes that an audit should find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from override_gap.probes.organism.hypernetwork import Factors
from override_gap.probes.organism.plants.context import PlantingContext

NO_CONTENT, TOO_WEAK, AT_A_PRICE = "no content", "too weak", "at a price"
THIRD_TOKEN, SATURATES, BROKEN_FIRST, TOO_STRONG = "third token", "saturates", "broken first", "too strong"
REPAIRABLE = frozenset({TOO_WEAK, AT_A_PRICE})
"""Causes of an item whose adapter has the right content: which of the two depends on what its repair costs."""

Make = Callable[[PlantingContext, torch.Generator], "Planted"]


@dataclass(frozen=True)
class Planted:
    """The factors of every document of a context, and what is known of them.

    `causes`: item id -> the causes that would be right if the item fails as delivered; items that it does not name have
    none that is known by construction. `checks`: figures that show the plant to be what it says, measured when it was made.
    """

    factors: Factors
    causes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    checks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plant:
    """A known way to succeed or fail, and the verdict that an audit of it should reach."""

    name: str
    truth: str
    """The right label: no-failure, magnitude, representational or mixed."""
    make: Make
    meaning: str = ""
    """One line for the table."""
    random: bool = False
    """Whether the seed changes it."""
    document_blind: bool = False
    """Whether it depends on the question or on nothing, and not on what the document says."""
    runner_up: bool = False
    """Whether it is audited on documents that state the base's second choice."""

    def __call__(self, context: PlantingContext, seed: int = 0) -> Planted:
        """Made for a context; the same seed makes the same plant."""
        return self.make(context, torch.Generator().manual_seed(seed))


def conflict_causes(
    context: PlantingContext, causes: frozenset[str] | set[str], of: Bool[Tensor, " item"] | None = None
) -> dict[str, frozenset[str]]:
    """The same causes for every conflict, or for those of a mask."""
    return {
        item.id: frozenset(causes)
        for n, item in enumerate(context.items)
        if item.split == "conflict" and (of is None or bool(of[n]))
    }


def is_conflict(context: PlantingContext) -> Bool[Tensor, " item"]:
    """Mask of the conflicts."""
    return torch.tensor([split == "conflict" for split in context.splits])


def first_rows(context: PlantingContext) -> list[int]:
    """The first item of every document."""
    first: dict[int, int] = {}
    for n, document in enumerate(context.document_of.tolist()):
        first.setdefault(document, n)
    return [first[document] for document in range(len(context.documents))]
