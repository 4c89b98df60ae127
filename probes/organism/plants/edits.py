"""Edits of the last layer: a chosen change of the final stream on a document's own questions, and none on other questions.

The last layer's down projection writes into the final stream alone, so what an edit there does is known in closed form.
With k the input on a question, A's row a and B's column b, the stream h of the question becomes h + gain (a.k) b. The final
norm divides by the stream's root mean square, one positive factor for all tokens, so which of two tokens leads depends
on gain (a.k) linearly, and the gain at which an answer comes first is known without a search.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.probes.organism.hypernetwork import Factors
from override_gap.probes.organism.plants.context import PlantingContext

RIDGE = 1e-4
"""Relative to the mean energy of an entry: keeps least squares solvable where directions are dependent."""


def logit_direction(context: PlantingContext, wanted: Mapping[int, float]) -> Float[Tensor, " d_model"]:
    """The b that changes the logits of some tokens by exactly these amounts before the final norm, and all others least.

    With U the unembedding rows: minimise ||U b||^2 subject to U[token] b = amount.
    """
    rows = context.unembedding.double()
    gram = rows.T @ rows
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    constraints = rows[list(wanted)]
    amounts = torch.tensor(list(wanted.values()), dtype=gram.dtype)
    spread = torch.linalg.solve(gram, constraints.T)
    return (spread @ torch.linalg.solve(constraints @ spread, amounts)).float()


def spread_direction(context: PlantingContext, wanted: Float[Tensor, " vocab"]) -> Float[Tensor, " d_model"]:
    """The b whose change of all logits, U b, is nearest to `wanted` in the sense of least squares."""
    rows = context.unembedding.double()
    gram = rows.T @ rows
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram, rows.T @ wanted.double()).float()


def selective_rows(context: PlantingContext, sizes: Float[Tensor, " item"]) -> Float[Tensor, "doc 1 d_ff"]:
    """A for every document: a.k = size on each of its own questions, and as near to 0 as can be at all other tokens.

    Where a question is read counts as much as all the tokens before it.
    Documents without a question of a size other than 0 get a row of zeros.
    """
    keys = context.states.keys.double()
    tokens = context.states.all_keys.double()
    rows = torch.zeros(len(context.documents), 1, keys.shape[1], dtype=keys.dtype)
    everyone = tokens.T @ tokens / len(tokens) + keys.T @ keys / len(keys)
    ridge = RIDGE * everyone.diagonal().mean() * torch.eye(keys.shape[1], dtype=keys.dtype)
    for document in range(len(context.documents)):
        own = context.document_of == document
        if not (own.any() and sizes[own].any()):
            continue
        energy = everyone + ridge
        # exactly the sizes on its own questions, least energy on all: the same closed form as for directions
        spread = torch.linalg.solve(energy, keys[own].T)
        gram = keys[own] @ spread
        gram += 1e-9 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        rows[document, 0] = spread @ torch.linalg.solve(gram, sizes[own].double())
    return rows.float()


def edit(context: PlantingContext, directions: Float[Tensor, "doc d_model"], sizes: Float[Tensor, " item"]) -> Factors:
    """A rank-one update of the last down projection per document: its stream moves by `sizes` times its direction."""
    return {context.last_map: (selective_rows(context, sizes), directions[:, :, None].contiguous())}


def flipping_size(
    context: PlantingContext, directions: Float[Tensor, "doc d_model"], target: Int[Tensor, " item"]
) -> Float[Tensor, " item"]:
    """The least size at which each item's `target` token leads all others under its document's direction.

    Infinite where some token that leads the target now is raised at least as much. 0 where the target leads already.
    """
    u, h = context.unembedding.double(), context.states.stream.double()
    written = directions[context.document_of].double() @ u.T
    standing = h @ u.T
    rows = torch.arange(len(target))
    behind = standing - standing[rows, target][:, None]
    closing = written[rows, target][:, None] - written
    sizes = torch.where(behind > 0, torch.where(closing > 0, behind / closing, torch.inf), 0.0)
    return sizes.amax(1).float()


def usable(sizes: Float[Tensor, " item"]) -> Float[Tensor, " item"]:
    """The sizes, with the median of those that are finite and positive in place of the others, so that no edit is nothing."""
    good = sizes.isfinite() & (sizes > 0)
    return torch.where(good, sizes, sizes[good].median())


def borrowed(context: PlantingContext, factors: Factors, splits: tuple[str, ...] = ("conflict",)) -> Factors:
    """The factors with those of documents outside `splits` replaced by those of documents inside, in turn.

    An edit that is made for a conflict's question has nothing to change for a retention document; what it costs there is
    measured with the edits of conflicts.
    """
    inside = sorted({int(d) for d, split in zip(context.document_of, context.splits, strict=True) if split in splits})
    source = torch.arange(len(context.documents))
    outside = [n for n in range(len(source)) if n not in set(inside)]
    for turn, document in enumerate(outside):
        source[document] = inside[turn % len(inside)]
    return {path: (a[source], b[source]) for path, (a, b) in factors.items()}
