"""How the residual stream changes under an adapter: in length (radial) and in direction (angular)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def relative_length(base: Float[Tensor, "*at d_model"], adapted: Float[Tensor, "*at d_model"]) -> Float[Tensor, "*at"]:
    """|h_g| / |h_f| - 1: what a final norm takes away again."""
    return torch.linalg.norm(adapted, dim=-1) / torch.linalg.norm(base, dim=-1) - 1


def angle(base: Float[Tensor, "*at d_model"], adapted: Float[Tensor, "*at d_model"]) -> Float[Tensor, "*at"]:
    """The angle between h_f and h_g, radians, 0 to pi.

    2 atan2(|u - v|, |u + v|) of the unit vectors (Kahan 2006): an arc cosine loses half the digits of a small angle.
    """
    u, v = (h / torch.linalg.norm(h, dim=-1, keepdim=True) for h in (base, adapted))
    return 2 * torch.atan2(torch.linalg.norm(u - v, dim=-1), torch.linalg.norm(u + v, dim=-1))
