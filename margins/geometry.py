"""Adapters against each other: inner products of whole updates, and what they say of a set of documents' adapters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.updates import LowRank, Update

Gram = Float[Tensor, "document document"]
AT_ONCE = 2**22
"""Numbers of whole matrices that are formed at once, where updates are no products of factors."""


def gram(adapters: Sequence[Adapter]) -> dict[int, Gram]:
    """Frobenius inner products <update i, update j> per layer, over all weights of the layer, in squared weight units.

    The update of a weight is the document's part and the shared part together, as they act. No product B A is formed
    where all updates of a weight are low-rank: <B A, B' A'> = sum((B^T B') * (A A'^T)). float64.
    """
    layers: dict[int, Gram] = {}
    for path in dict.fromkeys(path for adapter in adapters for path in adapter.paths):
        layer = layer_of(path)
        if layer is None:
            raise ValueError(f"{path} is in no layer")
        parts = [[part[path] for part in (a.updates, a.shared) if path in part] for a in adapters]
        products = _products(parts)
        layers[layer] = layers[layer] + products if layer in layers else products
    return dict(sorted(layers.items()))


def _products(parts: Sequence[Sequence[Update]]) -> Gram:
    """<sum of parts i, sum of parts j> of one weight; an update that several documents have, a shared part say, counts once."""
    distinct = {id(update): update for updates in parts for update in updates}
    number = {key: n for n, key in enumerate(distinct)}
    has = torch.zeros(len(parts), len(distinct), dtype=torch.float64)
    for n, updates in enumerate(parts):
        for update in updates:
            has[n, number[id(update)]] += 1
    return has @ _between(list(distinct.values())) @ has.T


def _between(updates: Sequence[Update]) -> Gram:
    """<update i, update j> of updates of one weight, on the CPU."""
    shapes = {update.shape for update in updates}
    if len(shapes) > 1:
        raise ValueError(f"updates of different weights: {', '.join(map(str, sorted(shapes)))}")
    low = [update for update in updates if isinstance(update, LowRank)]
    total = torch.zeros(len(updates), len(updates), dtype=torch.float64)
    if len(low) == len(updates) and all(update.rank <= max(update.shape) for update in low):
        a, b = _concatenated([update.A for update in low], 0), _concatenated([update.B for update in low], 1)
        owner = torch.tensor([n for n, update in enumerate(low) for _ in range(update.rank)])
        # columns first, then rows, summed over the ranks of each update
        rows = torch.zeros(len(owner), len(low), dtype=torch.float64)
        rows.index_add_(1, owner, ((a @ a.T) * (b.T @ b)).cpu())
        scale = torch.tensor([update.scale for update in low], dtype=torch.float64)
        return total.index_add_(0, owner, rows) * (scale[:, None] * scale)
    step = max(1, AT_ONCE // (len(updates) * updates[0].shape[-1]))
    for first in range(0, updates[0].shape[0], step):
        flat = torch.stack([_output_rows(update, first, first + step).flatten() for update in updates])
        total += flat @ flat.T
    return total


def _concatenated(factors: Sequence[Tensor], dim: int) -> Tensor:
    """Factors side by side on one device, float64."""
    if len({(factor.dtype, factor.device) for factor in factors}) == 1:
        return torch.cat(list(factors), dim).detach().double()
    return torch.cat([factor.detach().to(factors[0].device, torch.float64) for factor in factors], dim)


def _output_rows(update: Update, first: int, last: int) -> Tensor:
    """Some of the rows of an update's matrix, or of its vector; float64, on the CPU."""
    if isinstance(update, LowRank):
        return (update.scale * (update.B.detach()[first:last].double() @ update.A.detach().double())).cpu()
    return update.dense().detach()[first:last].double().cpu()


def own_share(
    products: Gram,
    apart: Bool[Tensor, "document document"],
    weights: Float[Tensor, "replicate document"] | None = None,
) -> Float[Tensor, " replicate"]:
    """Share of the mean squared norm that is not common to all documents: 1 - mean <i, j> over pairs / mean <i, i>.

    The pairs are those marked `apart`: documents that have nothing to do with each other (of different relations, say), never
    a document with itself. For adapters mu + d_i with independent d_i of mean 0 they estimate |mu|^2 without bias: the share is
    0 where every document has one adapter, 1 where adapters have nothing in common, and a little above by chance. `weights`:
    how often each document counts in each replicate of a bootstrap, all once by default. NaN where no pair counts.
    """
    w = torch.ones(1, len(products), dtype=torch.float64) if weights is None else weights.double()
    mask = apart.double()
    pairs = (w @ mask * w).sum(1)
    common = (w @ (products * mask) * w).sum(1) / torch.where(pairs > 0, pairs, torch.nan)
    mean_norm = w @ products.diagonal() / w.sum(1)
    return 1 - common / torch.where(mean_norm > 0, mean_norm, torch.nan)


def mean_cosine(products: Gram, pairs: Bool[Tensor, "document document"]) -> float:
    """Mean cosine between the adapters of the pairs that are marked, each pair once; NaN where none is, or a norm is zero."""
    chosen = torch.triu(pairs, diagonal=1)
    root = products.diagonal().clamp_min(0).sqrt()
    cosines = (products / (root[:, None] * root[None]))[chosen]
    return float(cosines.mean()) if len(cosines) else float("nan")


def effective_rank(products: Gram) -> float:
    """exp of the entropy of the singular values of the matrix [document, weight], in proportion (Roy and Vetterli 2007).

    1 where all adapters are multiples of one, the number of documents where they are orthogonal and of one size.
    """
    values = torch.linalg.eigvalsh(products).clamp_min(0).sqrt()
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(torch.exp(-(shares * shares.log()).sum())) if len(shares) else float("nan")


def singular_values(updates: Sequence[Update]) -> Float[Tensor, " value"]:
    """Singular values of the sum of a weight's updates, descending, float64; of factors without forming B A.

    B A = Q_B (R_B R_A^T) Q_A^T by two QR factorisations, and the small middle has the same singular values.
    """
    low = [update for update in updates if isinstance(update, LowRank)]
    if len(low) == len(updates) and sum(u.rank for u in low) <= min(low[0].shape):
        A = torch.cat([update.A.double() for update in low])
        B = torch.cat([update.scale * update.B.double() for update in low], dim=1)
        return torch.linalg.svdvals(torch.linalg.qr(B).R @ torch.linalg.qr(A.T).R.T)
    total = torch.stack([update.dense().double() for update in updates]).sum(0)
    return torch.linalg.svdvals(total if total.ndim == 2 else total[:, None])


def stable_rank(values: Float[Tensor, " value"]) -> float:
    """|update|_F^2 / |update|_2^2 of descending singular values, at most the rank; NaN for an update that is zero."""
    return float((values**2).sum() / values[0] ** 2) if values[0] > 0 else float("nan")


def stable_rank_of(adapter: Adapter) -> dict[int, float]:
    """The mean stable rank of the updates of each layer's weights, document and shared part together; zero ones are left out."""
    found: dict[int, list[float]] = {}
    for path in adapter.paths:
        values = singular_values([part[path] for part in (adapter.updates, adapter.shared) if path in part])
        layer = layer_of(path)
        if layer is not None and values[0] > 0:
            found.setdefault(layer, []).append(stable_rank(values))
    return {layer: sum(ranks) / len(ranks) for layer, ranks in found.items()}
