"""Rises: how far an adapter raises the logit of its document's answer beside those of what else could be answered.

A push alone is no sign of it: an edit that lowers the old answer, or flattens all logits, raises every other answer. Rises
are differences of logits at one question, so adding a constant to all logits changes nothing here.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from scipy.special import stdtr
from torch import Tensor

#: With fewer other answers a rank says little: the first of ten by chance is above nine tenths.
FEWEST_OTHERS = 19
#: Of fewer answers of one relation the most likely one is none that could be foreseen.
FEW = 4
#: So many of the base's leading tokens at the question are compared with; 10 to 50 gave the same figures within .03.
ALTERNATIVES = 20


def rise_rank(
    own: Float[Tensor, " batch"],
    others: Float[Tensor, "batch other"],
    counts: Bool[Tensor, "batch other"],
    fewest: int = FEWEST_OTHERS,
) -> Float[Tensor, " batch"]:
    """Share of the other answers whose logit rose less over the base than that of y_doc, 0 to 1; ties count half.

    The rise of a token is g(y) - f(y), nats: `own` that of y_doc, `others` those of the tokens with which other answers
    begin; `counts` says which of these are compared in each row. NaN where a row has fewer than `fewest` of them.
    """
    below = (others < own[:, None]).to(own.dtype) + 0.5 * (others == own[:, None]).to(own.dtype)
    number = counts.sum(1)
    share = (below * counts).sum(1) / number.clamp_min(1)
    return torch.where(number >= fewest, share, torch.nan)


def rise_level(
    own: Float[Tensor, " batch"], others: Float[Tensor, "batch other"], counts: Bool[Tensor, "batch other"]
) -> Float[Tensor, " batch"]:
    """How far the rise of y_doc stands out of a few others: the probability that one more answer like them rises less.

    By Student's t with k - 1 degrees of freedom at (own - mean) / (s sqrt(1 + 1/k)), the prediction of one more from k
    normal values of mean and standard deviation s. A rank among so few cannot tell the first by chance from the one meant.
    NaN with fewer than 3, which say little of s, and from FEWEST_OTHERS on, where `rise_rank` decides.
    """
    k = counts.sum(1).double()
    mean = (others * counts).sum(1).double() / k
    s = (((others - mean[:, None]) * counts).square().sum(1) / (k - 1)).sqrt()
    level = torch.from_numpy(stdtr((k - 1).numpy(), ((own - mean) / (s * (1 + 1 / k).sqrt())).numpy()))
    return torch.where((k >= 3) & (k < FEWEST_OTHERS), level, torch.nan).to(own.dtype)


def leading_alternatives(
    logits: Float[Tensor, "batch vocab"], pre: Int[Tensor, " batch"], doc: Int[Tensor, " batch"]
) -> Int[Tensor, "batch alternative"]:
    """The ALTERNATIVES tokens that the base f puts first, without y_pre and y_doc; a tiny vocabulary has fewer."""
    both = torch.stack([pre, doc], dim=1).to(logits.device)
    return logits.scatter(1, both, -torch.inf).topk(min(ALTERNATIVES, logits.shape[1] - 2), dim=1).indices


def place_of_answer(
    logits: Float[Tensor, "batch vocab"], pre: Int[Tensor, " batch"], doc: Int[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """How many tokens other than y_pre the base f puts before y_doc; 0: its second choice, if y_pre is its first."""
    pre, doc = pre.to(logits.device), doc.to(logits.device)
    ahead = logits.scatter(1, pre[:, None], -torch.inf) > logits.gather(1, doc[:, None])
    return ahead.sum(1)


def place_in_relation(
    logits: Float[Tensor, "batch vocab"],
    doc: Int[Tensor, " batch"],
    others: Int[Tensor, " other"],
    counts: Bool[Tensor, "batch other"],
) -> list[int | None]:
    """How many other answers of its relation, `counts` of `others`, the base f puts before y_doc; None with under FEW of them.

    At 0 an edit that raises the whole relation in proportion to what f thinks likely raises y_doc most, unread.
    """
    doc = doc.to(logits.device)
    ahead = (logits[:, others.to(logits.device)] > logits.gather(1, doc[:, None])).cpu() & counts
    return [
        place if number >= FEW else None
        for place, number in zip(ahead.sum(1).tolist(), counts.sum(1).tolist(), strict=True)
    ]


def push_excess(
    push: Float[Tensor, " batch"], pull: Float[Tensor, " batch"], alternatives: Float[Tensor, "batch alternative"]
) -> Float[Tensor, " batch"]:
    """By how much y_doc is raised further than y_pre is lowered, nats: (P - c) - (c - L), c the alternatives' median rise.

    P is the push, L the pull, `alternatives` the rises of the base's leading alternatives (an even number: the mean of the
    middle two). Below zero the adapter mostly takes the old answer away.
    """
    return push + pull - 2 * alternatives.quantile(0.5, dim=1)
