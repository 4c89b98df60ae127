"""Updates: what an adapter adds to one weight, and its Frobenius norm without forming the product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
"""Number formats of updates. Integers are refused: they are quantised, or no weights at all."""


@dataclass(frozen=True)
class LowRank:
    """A low-rank update, scale * B A, added to the weight [d_out, d_in] of one linear map."""

    __no_type_check__ = (
        True  # shapes come from files and people: checked below, with a message that says what is needed
    )

    A: Float[Tensor, "rank d_in"]
    B: Float[Tensor, "d_out rank"]
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require_floating(self.A, self.B)
        if self.A.ndim != 2 or self.B.ndim != 2 or self.A.shape[0] != self.B.shape[1]:
            raise ValueError(
                f"need A [rank, d_in] and B [d_out, rank] of one rank, got A {list(self.A.shape)}, B {list(self.B.shape)}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the weight this is added to."""
        return self.B.shape[0], self.A.shape[1]

    @property
    def rank(self) -> int:
        """Rows of A; the rank of the product is at most this."""
        return self.A.shape[0]

    def frobenius(self) -> float:
        """Frobenius norm of the update, in weight units; B A is never formed.

        ||B A||^2 = tr(B A A^T B^T) = sum((B^T B) * (A A^T)). In float64, since factors that cancel lose digits. Where the
        rank exceeds d_out and d_in those two products would be larger than B A, which is then formed after all.
        """
        if self.rank > max(self.shape):
            return abs(self.scale) * torch.linalg.norm(self.B.double() @ self.A.double()).item()
        a, b = self.A.double(), self.B.double()
        overlap = (b.T @ b) * (a @ a.T)
        return abs(self.scale) * overlap.sum().clamp_min(0).sqrt().item()

    def apply(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """What the update adds to the linear map's output."""
        return self.scale * (x @ self.A.T.to(x)) @ self.B.T.to(x)

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The update as a matrix; for checks and export, not for measuring."""
        return self.scale * (self.B @ self.A)


@dataclass(frozen=True)
class Dense:
    """An update as a matrix of the weight's own shape [d_out, d_in]."""

    __no_type_check__ = True  # as for LowRank

    delta: Float[Tensor, "d_out d_in"]

    def __post_init__(self) -> None:
        _require_floating(self.delta)
        if self.delta.ndim != 2:
            raise ValueError(f"need a matrix [d_out, d_in], got {list(self.delta.shape)}")

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the weight this is added to."""
        return self.delta.shape[0], self.delta.shape[1]

    @property
    def rank(self) -> int:
        """The largest rank that a matrix of this shape can have."""
        return min(self.shape)

    def frobenius(self) -> float:
        """Frobenius norm, in weight units."""
        return torch.linalg.norm(self.delta.double()).item()

    def apply(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """What the update adds to the linear map's output."""
        return x @ self.delta.T.to(x)

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The matrix itself."""
        return self.delta


@dataclass(frozen=True)
class Rescaled(Dense):
    """A matrix that is diag(rows) W + low_rank, W the base's weight, as DoRA makes it; `delta` is the whole of it.

    On a quantised base the map's output is not quite W x, since its input is rounded too; diag(rows) times that output is
    what the method adds.
    """

    rows: Float[Tensor, " d_out"]
    low_rank: LowRank


@dataclass(frozen=True)
class Vector:
    """The update of a parameter that is a vector: a bias, or the weight of a LayerNorm or RMSNorm.

    Its key in an adapter is the parameter's path, `model.layers.0.mlp.down_proj.bias`; the key of a linear map's update is
    the path of the map.
    """

    __no_type_check__ = True  # as for LowRank

    delta: Float[Tensor, " d_out"]

    def __post_init__(self) -> None:
        _require_floating(self.delta)
        if self.delta.ndim != 1:
            raise ValueError(f"need a vector [d_out], got {list(self.delta.shape)}")

    @property
    def shape(self) -> tuple[int]:
        """(d_out,) of the parameter this is added to."""
        return (self.delta.shape[0],)

    @property
    def rank(self) -> int:
        """1: a vector is one column."""
        return 1

    def frobenius(self) -> float:
        """Euclidean norm, in weight units."""
        return torch.linalg.norm(self.delta.double()).item()

    def dense(self) -> Float[Tensor, " d_out"]:
        """The vector itself."""
        return self.delta


Update = LowRank | Dense | Vector


@dataclass(frozen=True)
class LowRankBatch:
    """Low-rank updates of one shape, rank, format and device, one per row, so that one product computes them all."""

    A: Float[Tensor, "row rank d_in"]
    B: Float[Tensor, "row d_out rank"]
    scale: Float[Tensor, " row"]
    """float64."""

    @classmethod
    def of(cls, updates: Sequence[Update]) -> LowRankBatch | None:
        """The updates stacked, or None where they differ in kind, shape, rank, format or device."""
        low = [update for update in updates if isinstance(update, LowRank)]
        if not low or len(low) < len(updates):
            return None
        layouts = {(u.A.shape, u.A.dtype, u.A.device, u.B.shape, u.B.dtype, u.B.device) for u in low}
        if len(layouts) > 1:
            return None
        A, B = (torch.stack([getattr(update, name) for update in low]).detach() for name in "AB")
        return cls(A, B, torch.tensor([update.scale for update in low], dtype=torch.float64, device=B.device))

    def frobenius(self) -> Float[Tensor, " row"]:
        """Frobenius norms, in weight units and float64, by the equation of LowRank.frobenius."""
        a, b = self.A.double(), self.B.double()
        overlap = (b.mT @ b) * (a @ a.mT)
        return self.scale.abs() * overlap.sum((1, 2)).clamp_min(0).sqrt()

    def largest_norms(self) -> Float[Tensor, " row"]:
        """|scale| |A| |B|, float64, which no Frobenius norm is above: 0 where a factor is zero, not finite where one is not."""
        a, b = (torch.linalg.vector_norm(side.flatten(1), dim=1, dtype=torch.float64) for side in (self.A, self.B))
        return self.scale.abs() * a * b


def _require_floating(*tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.dtype not in FLOATING:
            raise ValueError(f"need floating-point numbers, got {str(tensor.dtype).removeprefix('torch.')}")


def inner(left: Update, right: Update) -> float:
    """Frobenius inner product <left, right>, in squared weight units; norms of sums need it and no dense matrix."""
    if left.shape != right.shape:
        raise ValueError(f"updates of different weights: {left.shape} and {right.shape}")
    low_rank = all(update.rank <= max(update.shape) for update in (left, right))  # see LowRank.frobenius
    if not low_rank:
        return (left.dense().double() * right.dense().double()).sum().item()
    if isinstance(left, LowRank) and isinstance(right, LowRank):
        overlap = (left.B.double().T @ right.B.double()) * (left.A.double() @ right.A.double().T)
        return left.scale * right.scale * overlap.sum().item()
    if isinstance(left, LowRank):
        return inner(right, left)
    if isinstance(right, LowRank) and isinstance(left, Dense):
        product = right.B.double().T @ left.delta.double() @ right.A.double().T
        return right.scale * product.trace().item()
    return (left.dense().double() * right.dense().double()).sum().item()
