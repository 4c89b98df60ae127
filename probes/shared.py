"""Shared work: what a pass computed below a layer, so that a pass which differs from that layer on starts there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probes.subject import Subject

#: A batch whose streams take more than this, in bytes, shares nothing: what is kept must stay small beside the model.
KEPT_BYTES = 2**29


@dataclass(frozen=True)
class Trunk:
    """One pass over a batch: what every block gave, at all positions.

    Causal attention: what a block gives at a position does not hang on later ones, so a shorter batch takes the first
    columns. Memory is layers x batch x positions x width, of one batch at a time, and bounded by KEPT_BYTES.
    """

    outs: tuple[Any, ...]

    def only(self, rows: Sequence[int], width: int) -> Trunk:
        """The same pass, some of its rows and its first `width` positions."""
        return Trunk(tuple(_map(out, lambda t: t[list(rows), :width] if t.ndim == 3 else t) for out in self.outs))


@contextmanager
def keeping(subject: Subject, positions: int, outs: list[Any]) -> Iterator[None]:
    """Inside the block every block's output is put into the list; nothing is where it would be too large."""
    size = positions * subject.d_model * subject.n_layers * torch.finfo(subject.dtype).bits // 8
    with ExitStack() as undo:
        for block in subject.blocks if size <= KEPT_BYTES else ():
            undo.callback(block.register_forward_hook(lambda _m, _a, out: outs.append(out)).remove)
        yield


@contextmanager
def from_layer(subject: Subject, trunk: Trunk | None, layer: int) -> Iterator[None]:
    """Inside the block the blocks under `layer` give what they gave in the trunk, and run nothing."""
    skipped = [vars(block) for block in subject.blocks[:layer]] if trunk is not None else []
    # accelerate's hooks are a block's own `forward`, which must be there again afterwards
    before = [own.get("forward") for own in skipped]
    try:
        for own, out in zip(skipped, trunk.outs if trunk is not None else (), strict=False):
            own["forward"] = lambda *_, out=out, **__: out
        yield
    finally:
        for own, forward in zip(skipped, before, strict=True):
            own.pop("forward", None)
            if forward is not None:
                own["forward"] = forward


def _map(out: Any, act: Any) -> Any:
    """Tensors of a block's output changed, whatever holds them."""
    if isinstance(out, Tensor):
        return act(out)
    return type(out)(_map(part, act) for part in out) if isinstance(out, (tuple, list)) else out
