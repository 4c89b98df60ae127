"""Effects of layers: the adapter's effect on a question as delivered, split over its layers along the path of gains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.effect import pulled
from override_gap.margins.items.divergence import Divergence
from override_gap.probes.attach.stack import Stack
from override_gap.probes.readings.gain_slopes import gain_slopes
from override_gap.probes.readings.unrelated import row_of
from override_gap.probes.subject.forward import Batch
from override_gap.probes.subject.model import Subject

NODES = 8
#: The parts add up to the whole to this share of it, or to so many nats, where the whole is small.
CLOSURE, CLOSURE_NATS = 0.05, 0.05


def layer_effects(
    subject: Subject,
    divergences: Sequence[Divergence],
    adapters: Stack,
    base: Float[Tensor, "batch vocab"],
    delivered: Float[Tensor, "batch vocab"],
    nodes: int = NODES,
) -> Float[Tensor, "batch layer"]:
    """What each layer's update adds to r(d) - r(b) at gain 1, nats; d and b as in `margins/effect.py`, at the question as asked.

    E_l = integral over t from 0 to 1 of dD/ds_l at s = (t, ..., t), with D = g(d) - g(b) as a function of one gain per layer;
    their sum is D(1, ..., 1) - D(0, ..., 0). Gauss-Legendre with so many nodes, each one forward and one backward pass.
    `base` and `delivered` are the logits at gain 0 and 1. A row whose parts miss that sum is NaN.
    """
    other, said = pulled(base, delivered)
    batch = Batch.of([row_of(place.asked) for place in divergences], subject.device)
    total = torch.zeros(len(divergences), subject.n_layers)

    def difference(final: Float[Tensor, "batch d_model"]) -> list[Float[Tensor, " batch"]]:
        return [subject.token_logits(final, other) - subject.token_logits(final, said)]

    for node, weight in zip(*np.polynomial.legendre.leggauss(nodes), strict=True):
        gains = torch.full_like(total, (float(node) + 1) / 2, requires_grad=True)
        (slope,) = gain_slopes(subject, batch, [(adapters, gains)], gains, difference)
        total += float(weight) / 2 * slope
    rises = (delivered - base).gather(-1, torch.stack([other, said], dim=1)).cpu()
    whole = rises[:, 0] - rises[:, 1]
    missed = (total.sum(1) - whole).abs()
    total[~(missed <= CLOSURE * whole.abs() + CLOSURE_NATS)] = float("nan")
    return total
