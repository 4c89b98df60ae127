"""KL divergence of what two models would say next: how much of all that the base would say an adapter changes, in nats."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

#: So many logits are compared at a time: intermediate values take 16 MiB each, whatever batch and vocabulary.
CHUNK = 1 << 22


def kl_divergence(base: Float[Tensor, "batch vocab"], other: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    """KL(base || other) of two next-token distributions given as logits, nats per token; exactly 0 where they are equal.

    KL = sum over tokens y of p(y) (log p(y) - log q(y)), with p and q the softmax of `base` and of `other`, in float32.
    It is 0 or more; what rounding puts below 0 is clipped. Tokens to which the base gives no probability add nothing, also
    where a model rules them out (a logit of minus infinity). A token that `other` alone rules out makes it infinite.
    """
    if other is base:
        return torch.zeros(len(base), device=base.device)
    rows = max(1, CHUNK // max(1, base.shape[-1]))
    parts = [_rows(p, q) for p, q in zip(base.split(rows), other.split(rows), strict=True)]
    return torch.cat(parts) if parts else torch.zeros(0, device=base.device)


def _rows(base: Float[Tensor, "rows vocab"], other: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
    log_p, log_q = base.float().log_softmax(-1), other.float().log_softmax(-1)
    p = log_p.exp()
    # 0 times infinity is no number, but such a token's term is 0
    terms = (p * (log_p - log_q)).masked_fill(p == 0, 0.0)
    return terms.sum(-1).clamp_min(0.0)
