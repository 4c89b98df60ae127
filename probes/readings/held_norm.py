"""The final norm held: the adapted model's margin were its stream divided by what the base's final norm divides by."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.readings.prior import Prior
from override_gap.probes.subject.model import Subject


def net_at_base_norm(subject: Subject, prior: Prior, state: Adapted) -> Float[Tensor, " batch"] | None:
    """g(y_doc) - g(y_pre) with scale(x_f) in place of scale(x_g), nats: x the stream before the final norm, of base and adapted.

    An adapter that lengthens the stream shrinks all that stands in it, the prior included; here it does not. None with a logit
    cap, a final norm that is no LayerNorm or RMSNorm, or where a stream was not read.
    """
    if subject.norm is None or subject.cap is not None or state.residual is None or prior.residual is None:
        return None
    norm = subject.norm
    direction, constant = subject.margin_direction(prior.pre, prior.doc)
    adapted, base = state.residual[:, -1], prior.residual[:, -1]
    held = norm.centre(adapted) / norm.scale(base) * norm.weight + norm.bias
    return -(torch.einsum("bd,bd->b", held, direction) + constant)
