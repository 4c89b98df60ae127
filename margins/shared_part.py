"""The shared part of adapters that were delivered whole: what is common to every document is taken out of each, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import Dense, LowRank, Rescaled, Update, Vector


def without_shared(full: Adapter, shared: Adapter) -> Adapter:
    """The same adapter in two parts: W_shared of `shared`, and W_document = W_full - W_shared.

    Factors are concatenated, [A_full; A_shared] and [s_full B_full, -s_shared B_shared], so nothing is rounded but their
    scales; matrices and vectors are subtracted. At any gain both parts together act as `full` does. Raises ValueError for
    DoRA, whose update is no sum of two, and where the shapes differ.
    """
    common: dict[str, Update] = {path: update for path, update in shared.parts() if update.frobenius() != 0}
    if shared.updates.keys() & shared.shared.keys():
        raise ValueError("the shared adapter has a shared part of its own")
    if full.shared:
        raise ValueError(f"adapter {full.name} has a shared part already")
    own: dict[str, Update] = {}
    for path in dict.fromkeys([*full.updates, *common]):
        difference = _difference(path, full.updates.get(path), common.get(path))
        if difference is not None:
            own[path] = difference
    return replace(full, updates=own, shared=_in_order(common))


def _in_order(updates: Mapping[str, Update]) -> dict[str, Update]:
    return {path: updates[path] for path in sorted(updates)}


def _difference(path: str, full: Update | None, shared: Update | None) -> Update | None:
    if shared is None:
        return full
    if isinstance(full, Rescaled) or isinstance(shared, Rescaled):
        raise ValueError(f"{path}: DoRA scales the whole weight, so that nothing can be taken out of its update")
    if full is None:
        return _negative(shared)
    if full.shape != shared.shape:
        raise ValueError(
            f"{path}: the adapter's update has shape {list(full.shape)}, the shared one {list(shared.shape)}"
        )
    if isinstance(full, Vector) or isinstance(shared, Vector):
        delta = full.dense().float() - shared.dense().float()
        return Vector(delta) if delta.any() else None
    if isinstance(full, LowRank) and isinstance(shared, LowRank):
        A = torch.cat([full.A.float(), shared.A.float()])
        return LowRank(A, torch.cat([full.scale * full.B.float(), -shared.scale * shared.B.float()], dim=1))
    delta = full.dense().float() - shared.dense().float()
    return Dense(delta) if delta.any() else None


def _negative(update: Update) -> Update:
    if isinstance(update, LowRank):
        return LowRank(update.A, update.B, -update.scale)
    return Vector(-update.delta) if isinstance(update, Vector) else Dense(-update.delta)
