"""Null adapters: a random direction of an adapter's size, and the mean of many documents' adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, same_updates
from override_gap.margins.updates import Dense, LowRank, Update, Vector, inner

#: A matrix of at most this rank is given a random one of its rank; above it, one of full rank.
SKETCH = 32


def random_like(adapter: Adapter, content: str, seed: int) -> Adapter:
    """An adapter of Gaussian factors, at every weight of the rank and the Frobenius norm of what `adapter` adds there.

    Document and shared part count as one. `content`, the document's text, and `seed` decide the direction.
    """
    drawn: dict[str, Update] = {}
    for path in adapter.paths:
        parts = [part[path] for part in (adapter.updates, adapter.shared) if path in part]
        norm = max(sum(inner(a, b) for a in parts for b in parts), 0.0) ** 0.5
        digest = hashlib.sha256(f"{seed}:{path}:{content}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
        drawn[path] = _random(parts, norm, generator)
    return Adapter(f"random like {adapter.name}", drawn)


def _random(parts: Sequence[Update], norm: float, generator: torch.Generator) -> Update:
    shape = tuple(parts[0].shape)
    if len(shape) == 1:
        delta = torch.randn(shape, generator=generator)
        return Vector(delta * (norm / torch.linalg.norm(delta).item()))
    rank = rank_of_sum(parts)
    if rank > min(shape) // 2:
        delta = torch.randn(shape, generator=generator)
        return Dense(delta * (norm / torch.linalg.norm(delta).item()))
    rank = max(rank, 1)  # an update that is zero stays one of norm zero
    A, B = torch.randn(rank, shape[1], generator=generator), torch.randn(shape[0], rank, generator=generator)
    return LowRank(A, B * (norm / LowRank(A, B).frobenius()))


def is_finite(adapter: Adapter) -> bool:
    """Whether all that an adapter adds are numbers."""
    tensors = [
        tensor
        for _, update in adapter.parts()
        for tensor in ((update.A, update.B) if isinstance(update, LowRank) else (update.delta,))
    ]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def rank_of_sum(parts: Sequence[Update]) -> int:
    """The rank of what updates of one weight add up to; parts may cancel, as where a common part was taken out of the whole.

    Of factors it is that of R_B R_A^T, with Q_B R_B = [s_i B_i] and Q_A R_A = [A_i]^T; where some are whole, the sum of ranks.
    """
    low = [update for update in parts if isinstance(update, LowRank)]
    if len(parts) == 1 or len(low) < len(parts):
        return sum(rank_of(update) for update in parts)
    B = torch.cat([update.scale * update.B.detach().double().cpu() for update in low], dim=1)
    A = torch.cat([update.A.detach().double().cpu() for update in low])
    core = torch.linalg.qr(B, mode="r").R @ torch.linalg.qr(A.T, mode="r").R.T
    # factors are kept in float32 at most, so what is left of parts that cancel is rounding of that size
    return int(torch.linalg.matrix_rank(core, rtol=1e-5).item())


def rank_of(update: Update) -> int:
    """The rank of a matrix that may be stored whole, up to SKETCH; above it the largest that its shape allows.

    Products with SKETCH + 1 random vectors have the rank of the matrix where that is at most SKETCH (almost surely).
    """
    if not isinstance(update, Dense):
        return update.rank
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(update.shape[1], min(SKETCH + 1, min(update.shape)), generator=generator)
    sketch = update.delta.detach().float().cpu() @ probes
    rank = int(torch.linalg.matrix_rank(sketch).item())
    return rank if rank <= SKETCH else min(update.shape)


@dataclass
class AdapterMean:
    """The mean of adapters that are added one by one: their document parts averaged, the shared part acting once.

    A weight's updates are kept as factors side by side until those hold more numbers than the weight, then as one matrix, so
    that memory is bounded by the model's own size however many adapters there are.
    """

    count: int = 0
    shared: dict[str, Update] = field(default_factory=dict)
    _factors: dict[str, list[LowRank]] = field(default_factory=dict)
    _sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, adapter: Adapter) -> None:
        """Add one adapter. Raises ValueError where its shared part is not that of the others."""
        if self.count and not same_updates(self.shared, adapter.shared):
            raise ValueError(f"adapter {adapter.name} differs from the others in the part that every document shares")
        self.count, self.shared = self.count + 1, dict(adapter.shared)
        for path, update in adapter.updates.items():
            if isinstance(update, LowRank) and path not in self._sums:
                factors = self._factors.setdefault(path, [])
                factors.append(update)
                if sum(f.rank for f in factors) * sum(update.shape) > update.shape[0] * update.shape[1]:
                    self._sums[path] = sum_of(self._factors.pop(path))
                continue
            before = [*self._factors.pop(path, []), update]
            total = self._sums.get(path)
            self._sums[path] = sum_of(before) if total is None else total + sum_of(before)

    def adapter(self, name: str) -> Adapter:
        """The mean so far, as one adapter. An adapter without an update of a weight counts as zero there."""
        updates: dict[str, Update] = {}
        for path, factors in self._factors.items():
            A = torch.cat([f.A.detach().float().cpu() for f in factors])
            B = torch.cat([f.scale * f.B.detach().float().cpu() for f in factors], dim=1)
            updates[path] = LowRank(A, B, 1.0 / self.count)
        for path, total in self._sums.items():
            mean = total / self.count
            updates[path] = Vector(mean) if mean.ndim == 1 else Dense(mean)
        return Adapter(name, updates, self.shared)


def sum_of(updates: Sequence[Update]) -> Float[Tensor, ...]:
    """Updates of one weight added up, in float32."""
    low = [update for update in updates if isinstance(update, LowRank)]
    rest = [update.dense().detach().float().cpu() for update in updates if not isinstance(update, LowRank)]
    if low:
        A = torch.cat([f.A.detach().float().cpu() for f in low])
        B = torch.cat([f.scale * f.B.detach().float().cpu() for f in low], dim=1)
        rest.append(B @ A)
    return torch.stack(rest).sum(0) if len(rest) > 1 else rest[0]
