"""Critical gain: the smallest uniform gain at which the document's answer becomes the arg max, by bisection."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from override_gap.probes.attach.stack import Stack
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.layers import ReadAtGains
from override_gap.probes.readings.prior import Prior
from override_gap.probes.subject.model import Subject

GRID = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
HALVINGS = 5


def read_critical(
    subject: Subject,
    prior: Prior,
    adapters: Stack,
    read: ReadAtGains | None = None,
    beyond: Sequence[Collection[float]] | None = None,
    wanted: Sequence[bool] | None = None,
) -> list[float | None]:
    """Critical gain of each item; infinity where no gain of GRID, nor of `beyond`, makes y_doc the arg max.

    `beyond` are further gains of each item, above GRID's, at which the search has read it. `wanted`: the items whose gain is
    searched, by default all.

    None where the logits are not finite at some gain of the grid before one flips the item (float16 overflows).

    The response need not be monotone, so the grid is searched upwards for the first gain that flips the item; then the step
    before it is halved HALVINGS times (to 0.016 below gain 3). `read` gives the readings at gains; by default each is a pass
    of its own. Items that need no further gain are read at gain 0, which `ReusedPasses` does without a pass.
    """
    read = read or (lambda gains: read_adapted(subject, prior, adapters, gains))

    def flips_at(gain: Float[Tensor, " batch"]) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Whether y_doc is the arg max, and whether the logits are finite."""
        state = read(gain[:, None].expand(-1, subject.n_layers))
        finite = state.top_prob.isfinite().cpu()
        return (state.top == prior.doc).cpu() & finite, finite

    count = len(prior.pre)
    low = torch.zeros(count)
    high = torch.full((count,), math.inf)
    readable = torch.ones(count, dtype=torch.bool)
    searched = [frozenset(gains) for gains in beyond] if beyond is not None else [frozenset[float]()] * count
    asked = torch.ones(count, dtype=torch.bool) if wanted is None else torch.tensor(list(wanted), dtype=torch.bool)
    for gain in (*GRID, *sorted({gain for gains in searched for gain in gains if gain > GRID[-1]})):
        here = torch.tensor([gain <= GRID[-1] or gain in gains for gains in searched])
        unflipped = high.isinf() & here & asked
        if not bool(unflipped.any()):
            continue
        flips, finite = flips_at(torch.where(unflipped, torch.tensor(gain), torch.tensor(0.0)))
        readable &= finite | ~unflipped
        high = torch.where(unflipped & flips, torch.tensor(gain), high)
        low = torch.where(unflipped & ~flips, torch.tensor(gain), low)
    bracketed = high.isfinite() & (high > 0) & asked
    for _ in range(HALVINGS if bool(bracketed.any()) else 0):
        middle = torch.where(bracketed, (low + high) / 2, torch.zeros(count))
        flips, _ = flips_at(middle)
        high = torch.where(bracketed & flips, middle, high)
        low = torch.where(bracketed & ~flips, middle, low)
    return [gain if known else None for gain, known in zip(high.tolist(), readable.tolist(), strict=True)]
