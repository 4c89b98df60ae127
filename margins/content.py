"""Content: does an adapter raise its document's answer more than it raises the answers of other documents?

A push alone is no sign of it: an edit that lowers the old answer, or flattens all logits, raises every other answer.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

#: An answer is raised beyond the others if its rise is above that of at least this share of them.
CONTENT = 0.95
#: With fewer other answers a rank says little: the first of ten by chance is above nine tenths.
FEWEST_OTHERS = 19


def rise_rank(
    own: Float[Tensor, " batch"], others: Float[Tensor, "batch other"], counts: Bool[Tensor, "batch other"]
) -> Float[Tensor, " batch"]:
    """Share of the other answers whose logit rose less over the base than that of y_doc, 0 to 1; ties count half.

    The rise of a token is g(y) - f(y), nats: `own` that of y_doc, `others` those of the tokens with which other answers
    begin; `counts` says which of these are compared in each row. NaN where a row has fewer than FEWEST_OTHERS of them.
    """
    below = (others < own[:, None]).to(own.dtype) + 0.5 * (others == own[:, None]).to(own.dtype)
    number = counts.sum(1)
    share = (below * counts).sum(1) / number.clamp_min(1)
    return torch.where(number >= FEWEST_OTHERS, share, torch.nan)
