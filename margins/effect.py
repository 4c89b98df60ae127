"""Effect: how strongly an adapter pulls a question's answer away from what the base says, without looking at any answer."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def effect(
    base: Float[Tensor, "batch vocab"], adapted: Float[Tensor, "batch vocab"], gain: float
) -> Float[Tensor, " batch"]:
    """The adapter's effect on each question, nats per unit of gain; 0 or more, NaN where the logits are not finite.

    a = max(0, (r(d) - r(b)) / gain) with r(y) = g(y) - f(y) the rise of a token's logit at the uniform gain, b the token
    that the base f puts first and d the one that the adapted model g puts first among all others. What is added to every
    logit changes nothing. It is the adapter margin of (d, b) at that gain, per unit of gain, since d stands in for y_doc.
    """
    said = base.argmax(-1, keepdim=True)
    other = adapted.scatter(-1, said, float("-inf")).argmax(-1, keepdim=True)
    rises = [(adapted.gather(-1, token) - base.gather(-1, token))[:, 0] for token in (other, said)]
    return ((rises[0] - rises[1]) / gain).clamp_min(0.0)
