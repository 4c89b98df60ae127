"""What the card itself reaches, and the least time that passes of a model would take at that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from benchmarks.bench.record import Line, single, spread
from benchmarks.gpu.steps import Clock

SIZE, COPIED = 8192, 2**32  # of a square matrix; bytes
TINY_SIZE, TINY_COPIED = 256, 2**20


@dataclass(frozen=True)
class Ceilings:
    """Operations per second of a bf16 matrix product, and bytes per second of a copy, read and written."""

    operations: tuple[float, ...]
    bytes: tuple[float, ...]

    def lines(self) -> list[Line]:
        """Both, as figures."""
        return [
            Line("bf16 matrix product", "the card", spread([x / 1e12 for x in self.operations]), "Tflop/s"),
            Line("copy, bytes read and written", "the card", spread([x / 1e12 for x in self.bytes]), "TB/s"),
        ]

    def least_seconds(self, model: Any, tokens: int, passes: int, batches: float) -> float:
        """Least seconds of passes over so many tokens: two operations per weight of the blocks and token, or all of these
        weights read once per batch. Embedding, attention's products and unembedding are left out, as a floor may.
        """
        weights = sum(p.numel() for p in model.base_model.layers.parameters())
        operations = 2 * weights * tokens * passes / max(self.operations)
        return max(operations, 2 * weights * passes * batches / max(self.bytes))


@cache
def measured(device: str, repeats: int = 5) -> Ceilings:
    """Both ceilings of the device, on random data."""
    clock, large = Clock(device), device.startswith("cuda")
    size, copied = (SIZE, COPIED) if large else (TINY_SIZE, TINY_COPIED)
    a, b = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    source = torch.randint(0, 255, (copied,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = clock.in_turn({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, repeats)
    return Ceilings(
        tuple(2 * size**3 / s for s in seconds["product"]),
        tuple(2 * copied / s for s in seconds["copy"]),
    )


def floor_line(seconds: float, least: float) -> Line:
    """Measured seconds as a multiple of the least."""
    return Line("the same", "the floor by operations and bytes at these ceilings", single(seconds / least))
