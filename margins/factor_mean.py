"""The mean of several adapters' factors, A and B each averaged before they are multiplied, as DyPRAG takes several documents."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from override_gap.margins.adapter import Adapter, same_updates
from override_gap.margins.updates import Dense, LowRank, Update, Vector


def mean_of_factors(adapters: Sequence[Adapter]) -> Adapter:
    """One adapter with, at every weight, scale * mean(B_i) mean(A_i); matrices and vectors without factors are averaged whole.

    Source: DyPRAG (Tan et al. 2025), which averages what its network gives for every passage, A and B apart. This is not the
    mean of the updates, mean(scale B_i A_i): it also multiplies each document's B with the others' A, and it depends on how
    an update is written as factors. The part that every document shares acts once. Raises ValueError where that part differs,
    or where the adapters differ in the weights that they change, or at a weight in rank, in scale or in kind.
    """
    first = adapters[0]
    for other in adapters[1:]:
        names = f"adapters {first.name} and {other.name}"
        if not same_updates(first.shared, other.shared):
            raise ValueError(
                f"{names} differ in the part that every document shares, so no mean has that part acting once"
            )
        if first.updates.keys() != other.updates.keys():
            path = min(first.updates.keys() ^ other.updates.keys())
            raise ValueError(
                f"{names}: only one changes {path}; factors are averaged where all adapters change the same weights"
            )
    means = {path: _mean(path, [adapter.updates[path] for adapter in adapters]) for path in first.updates}
    return Adapter(f"mean of {'+'.join(adapter.name for adapter in adapters)}", means, first.shared)


def _mean(path: str, updates: Sequence[Update]) -> Update:
    low = [update for update in updates if isinstance(update, LowRank)]
    if len(low) == len(updates):
        if len({(update.rank, update.scale, update.shape) for update in low}) > 1:
            forms = ", ".join(f"rank {update.rank} and scale {update.scale:g}" for update in low[:4])
            raise ValueError(f"{path}: factors are averaged where ranks and scales are equal, got {forms}")
        A, B = (torch.stack([getattr(update, name).float() for update in low]).mean(0) for name in "AB")
        return LowRank(A, B, low[0].scale)
    if low:
        raise ValueError(f"{path}: some adapters have factors and some a whole matrix, which have no common mean")
    whole = torch.stack([update.dense().float() for update in updates]).mean(0)
    return Vector(whole) if whole.ndim == 1 else Dense(whole)
