"""Plants of strength: the right adapters times a factor, the same for all, by document, or by layer."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.probes.organism.faults import clipped, growing_gain, repairing_gain, scaled
from override_gap.probes.organism.plants.context import PlantingContext
from override_gap.probes.organism.plants.plant import (
    REPAIRABLE,
    TOO_STRONG,
    Make,
    Plant,
    Planted,
    conflict_causes,
    is_conflict,
)

WEAK = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 5, 0.3, 0.5, 1.0)
"""Factors at which a fifth or more of the known conflicts fail on every world: failures of magnitude."""
STRONG = (2.0, 3.0, 4.0, 5.0)
"""Factors at which fewer than a tenth fail: nothing to repair, whatever unrelated answers it costs."""
OVERDONE = 16.0
"""A factor at which a third fails again, although the same adapters succeed at a sixteenth of the strength."""
SPREAD = (1 / 64, 4.0)


def times(factor: float) -> Make:
    """Every adapter times one factor."""

    def make(context: PlantingContext, _: torch.Generator) -> Planted:
        causes = REPAIRABLE if factor <= 1 else frozenset({TOO_STRONG}) | (REPAIRABLE if factor < OVERDONE else set())
        return Planted(scaled(context.factors, factor), conflict_causes(context, causes))

    return make


def log_uniform(count: int, generator: torch.Generator, low: float, high: float) -> Float[Tensor, " draw"]:
    """Factors whose logarithms are uniform."""
    unit = torch.rand(count, generator=generator)
    return (math.log(low) + unit * (math.log(high) - math.log(low))).exp()


def by_document(context: PlantingContext, generator: torch.Generator) -> Planted:
    """Every document's adapter times a factor of its own."""
    factor = log_uniform(len(context.documents), generator, *SPREAD)
    weak = (factor <= 1)[context.document_of]
    causes = conflict_causes(context, REPAIRABLE, weak)
    causes |= conflict_causes(context, REPAIRABLE | {TOO_STRONG}, ~weak)
    return Planted(scaled(context.factors, factor), causes)


def equal_norms(context: PlantingContext, generator: torch.Generator) -> Planted:
    """Every adapter scaled to one norm, 0.8 of the smallest: what a method that normalises its updates does."""
    return Planted(clipped(context.factors, generator), conflict_causes(context, REPAIRABLE))


def growing(context: PlantingContext, _: torch.Generator) -> Planted:
    """A gain per document that grows with its prior margin, so that the adapter margin is not constant (`growing_gain`)."""
    n = torch.arange(len(context.pre))
    margins = context.states.logits[n, context.pre] - context.states.logits[n, context.doc]
    gains = [
        growing_gain(float(margins[context.document_of == document].mean())) for document in range(_count(context))
    ]
    return Planted(scaled(context.factors, torch.tensor(gains)), conflict_causes(context, REPAIRABLE | {TOO_STRONG}))


def amplified(context: PlantingContext, _: torch.Generator) -> Planted:
    """A gain per document that repairs all its conflicts (`repairing_gain`), found by bisection of its questions."""
    low, high = torch.zeros(len(context.doc)), torch.full((len(context.doc),), 4.0)
    for _step in range(8):
        middle = (low + high) / 2
        own = {
            path: (a[context.document_of], middle[:, None, None] * b[context.document_of])
            for path, (a, b) in context.factors.items()
        }
        logits = context.asked_under(own, n := torch.arange(len(context.doc)), n)
        won = logits.argmax(-1) == context.doc
        low, high = torch.where(won, low, middle), torch.where(won, middle, high)
    critical = torch.where(is_conflict(context) & (high < 4), high, torch.inf)
    gains = [repairing_gain(critical[context.document_of == document].tolist()) for document in range(_count(context))]
    causes = conflict_causes(context, REPAIRABLE | {TOO_STRONG})
    return Planted(scaled(context.factors, torch.tensor(gains)), causes)


def by_layer(context: PlantingContext, generator: torch.Generator) -> Planted:
    """Every layer's update times a factor of its own, the same for all documents."""
    factors = log_uniform(len(context.factors), generator, 1 / 16, 1.0)
    return Planted(
        {path: (a, factor * b) for factor, (path, (a, b)) in zip(factors, context.factors.items(), strict=True)}
    )


def _count(context: PlantingContext) -> int:
    return len(context.documents)


STRENGTH = (
    *(
        Plant(
            f"times-{factor:.3g}" if factor != 1 else "as-trained",
            "magnitude",
            times(factor),
            f"the right adapter times {factor:.3g}",
        )
        for factor in WEAK
    ),
    *(
        Plant(f"times-{factor:.3g}", "no-failure", times(factor), f"the right adapter times {factor:.3g}")
        for factor in STRONG
    ),
    Plant("times-16", "magnitude", times(OVERDONE), "the right adapter times 16: too strong where it fails"),
    Plant(
        "by-document",
        "magnitude",
        by_document,
        "the right adapter, times 1/64 to 4 by document (log-uniform)",
        random=True,
    ),
    Plant("clipped", "magnitude", equal_norms, "the right adapter, all at one norm, 0.8 of the smallest"),
    Plant("growing", "magnitude", growing, "the right adapter, times a gain that grows with the prior margin"),
    Plant("amplified", "no-failure", amplified, "the right adapter, times the gain that its questions need"),
)
