"""The question as asked: the base's and the adapted model's logits at its last token, where policies look."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.items.divergence import Divergence
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import Stack
from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.readings.prior import Prior
from override_gap.probes.readings.unrelated import row_of
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject


def asked_apart(divergences: Sequence[Divergence]) -> list[int]:
    """The rows whose reading position is not the question's last token: answers share tokens, or one merges with its end."""
    return [n for n, place in enumerate(divergences) if place.asked != place.prefix]


def base_as_asked(subject: Subject, prior: Prior, divergences: Sequence[Divergence]) -> Float[Tensor, "batch vocab"]:
    """The base's logits at the last token of each question as asked; one pass more for rows that are read elsewhere."""
    rows = asked_apart(divergences)
    if not rows:
        return prior.logits
    batch = Batch.of([row_of(divergences[n].asked) for n in rows], subject.device)
    logits = prior.logits.clone()
    logits[rows] = subject.logits(forward(subject, batch, batch.at[:, None]).final[:, 0])
    return logits


def adapted_as_asked(
    subject: Subject, divergences: Sequence[Divergence], adapters: Stack, gain: float, read: Adapted
) -> Float[Tensor, "batch vocab"]:
    """The adapted model's logits there, at a uniform gain; `read` are its readings where the answers first differ.

    Rows whose question ends elsewhere take one pass more.
    """
    logits = subject.logits(read.hidden) if read.logits is None else read.logits
    rows = asked_apart(divergences)
    if rows:
        batch = Batch.of([row_of(divergences[n].asked) for n in rows], subject.device)
        gains = torch.full((len(rows), subject.n_layers), gain)
        with attached(subject, adapters.only(rows), gains):
            state = forward(subject, batch, batch.at[:, None])
        logits = logits.clone()
        logits[rows] = subject.logits(state.final[:, 0])
    return logits
