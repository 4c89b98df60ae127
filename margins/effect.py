"""Effect: how strongly an adapter pulls a question's answer away from what the base says, without looking at any answer."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def pulled(
    base: Float[Tensor, "batch vocab"], adapted: Float[Tensor, "batch vocab"]
) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    """The token d that the adapted model puts first among all but the base's, and b, the one that the base puts first."""
    said = base.argmax(-1)
    return adapted.scatter(-1, said[:, None], float("-inf")).argmax(-1), said


def effect(
    base: Float[Tensor, "batch vocab"], adapted: Float[Tensor, "batch vocab"], gain: float
) -> Float[Tensor, " batch"]:
    """The adapter's effect on each question, nats per unit of gain; 0 or more, NaN where the logits are not finite.

    a = max(0, (r(d) - r(b)) / gain) with r(y) = g(y) - f(y) the rise of a token's logit at the uniform gain, and d, b as
    `pulled` gives them. What is added to every logit changes nothing. It is the adapter margin of (d, b) at that gain, per
    unit of gain, since d stands in for y_doc.
    """
    other, said = pulled(base, adapted)
    rises = [_logit(adapted, token) - _logit(base, token) for token in (other, said)]
    return ((rises[0] - rises[1]) / gain).clamp_min(0.0)


def lead(base: Float[Tensor, "batch vocab"], adapted: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    """f(b) - f(d), nats: by how much the base prefers its first token to the one that the adapter pulls towards; 0 or more.

    It is the prior margin of (d, b). At the uniform gain (lead + h) / effect, d is predicted to come first by h nats.
    """
    other, said = pulled(base, adapted)
    return _logit(base, said) - _logit(base, other)


def _logit(logits: Float[Tensor, "batch vocab"], token: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return logits.gather(-1, token[:, None])[:, 0]
