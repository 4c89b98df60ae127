"""Join: the adapters of several documents as one, by concatenation of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from margins.adapter import Adapter
from margins.updates import Dense, LowRank, Update, Vector


def join(adapters: Sequence[Adapter]) -> Adapter:
    """One adapter whose document part is the sum of theirs: W_joined - W_base = sum_i scale_i B_i A_i.

    Factors are put side by side along the rank, each scale folded into B. The shared part, which is the same for every
    document, acts once. Raises ValueError where it is not the same.
    """
    first = adapters[0]
    for other in adapters[1:]:
        if not _same(first.shared, other.shared):
            raise ValueError(
                f"adapters {first.name} and {other.name} differ in the part that every document shares, so they cannot be "
                "joined with that part acting once"
            )
    paths = dict.fromkeys(path for adapter in adapters for path in adapter.updates)
    joined = {path: _sum([a.updates[path] for a in adapters if path in a.updates]) for path in paths}
    return Adapter("+".join(adapter.name for adapter in adapters), joined, first.shared)


def _sum(updates: Sequence[Update]) -> Update:
    if all(isinstance(update, Vector) for update in updates):
        return Vector(torch.stack([update.dense() for update in updates]).sum(0))
    factors = [update for update in updates if isinstance(update, LowRank)]
    if len(factors) < len(updates):
        return Dense(torch.stack([update.dense() for update in updates]).sum(0))
    return LowRank(torch.cat([f.A for f in factors]), torch.cat([f.scale * f.B for f in factors], dim=1))


def _same(left, right) -> bool:
    return left.keys() == right.keys() and all(
        left[path] is right[path] or torch.equal(left[path].dense(), right[path].dense()) for path in left
    )
