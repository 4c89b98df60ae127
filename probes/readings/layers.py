"""Layers: a margin split over the model's layers, and what each layer of an adapter does alone or when removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.attribution import attribution, direct, lens
from override_gap.probes.attach.stack import Stack
from override_gap.probes.errors import SubjectError
from override_gap.probes.readings.adapted import Adapted, read_adapted
from override_gap.probes.readings.prior import Prior
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.parity import unit_roundoff

#: No larger gap between a margin and the sum of its attribution is ever rounding, nats.
LARGEST_GAP = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}

ReadAtGains = Callable[[Float[Tensor, "batch layer"]], Adapted]


@dataclass(frozen=True)
class LayerProfile:
    """A margin split over layers, nats: `lens` per layer, `attribution` per layer after entry 0, the embedding and constants."""

    lens: Float[Tensor, "batch layer"]
    attribution: Float[Tensor, "batch layer+1"]


def read_layers(subject: Subject, prior: Prior, state: Adapted) -> LayerProfile:
    """Split the margin M = z[y_pre] - z[y_doc] of a state over its layers.

    Raises SubjectError where the final norm is neither LayerNorm nor RMSNorm, or the stream was not read.
    """
    if subject.norm is None or state.residual is None:
        raise SubjectError(
            f"{subject.name}: its final norm is not LayerNorm or RMSNorm, so margins cannot be split over layers"
        )
    direction, constant = subject.margin_direction(prior.pre, prior.doc)
    return LayerProfile(
        lens=lens(state.residual[:, 1:], subject.norm, direction, constant),
        attribution=attribution(state.residual, subject.norm, direction, constant),
    )


def attribution_gap(subject: Subject, prior: Prior, state: Adapted, profile: LayerProfile) -> Float[Tensor, " batch"]:
    """|sum of the attribution - pre-cap margin|, nats: rounding alone (`attribution_tolerance`), which every run checks."""
    direction, constant = subject.margin_direction(prior.pre, prior.doc)
    margin = (state.hidden * direction).sum(-1) + constant
    return (profile.attribution.sum(1) - margin).abs()


def attribution_tolerance(subject: Subject, prior: Prior, state: Adapted) -> Float[Tensor, " batch"]:
    """The largest `attribution_gap` that is rounding, nats: 1e-3 in float32, else by what rounding the final state can do.

    The attribution sums in float32 what the model's final norm rounds to its number format: each of its products h_i with a
    relative error of at most a few u, u the format's unit roundoff. These are independent, so the margin is off by about
    u sqrt(sum_i (h_i w_i)^2), w its direction; on SmolLM2 never by more than 1.8 times that, and 8 times is allowed.
    """
    direction, _ = subject.margin_direction(prior.pre, prior.doc)
    typical = unit_roundoff(subject.coarsest_dtype) * (state.hidden * direction).square().sum(-1).sqrt()
    return (8 * typical).clamp(1e-3, LARGEST_GAP[subject.coarsest_dtype])


def read_direct(subject: Subject, prior: Prior, state: Adapted) -> Float[Tensor, "batch layer"] | None:
    """What each layer's updates write directly into the adapter margin, nats; None where a norm comes in between."""
    if subject.norm is None or state.residual is None or state.written is None:
        return None
    direction, _ = subject.margin_direction(prior.pre, prior.doc)
    last = state.residual[:, -1]
    by_layer = [direct(state.written[:, layer], last, subject.norm, direction) for layer in range(subject.n_layers)]
    return torch.stack(by_layer, dim=1)


def read_causal(
    subject: Subject, prior: Prior, adapters: Stack, layers: list[int], read: ReadAtGains | None = None
) -> tuple[Float[Tensor, "batch chosen"], Float[Tensor, "batch chosen"]]:
    """Adapter margins, nats: with each of `layers` alone at gain 1, and with each removed from the adapter as delivered.

    `read` gives the readings at gains; by default each is a pass of its own.
    """
    read = read or (lambda gains: read_adapted(subject, prior, adapters, gains))
    alone, removed = [], []
    for layer in layers:
        only = torch.zeros(len(prior.pre), subject.n_layers)
        only[:, layer] = 1.0
        alone.append(read(only).margins.adapter)
        removed.append(read(1.0 - only).margins.adapter)
    return torch.stack(alone, dim=1), torch.stack(removed, dim=1)
