"""Resuming: what every block gave in one pass, kept so that another pass of the same rows need not run the lower blocks again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.probes.subject.model import Subject

#: A batch whose block outputs take more than this, in bytes, shares nothing: what is kept must stay small beside the model.
KEPT_BYTES = 2**29


@dataclass(frozen=True, eq=False)
class BlockOutputs:
    """One pass over a batch: what every block gave, at all positions.

    Causal attention: what a block gives at a position does not depend on later ones, so a shorter batch takes the first
    columns. Memory is layers x batch x positions x width, of one batch at a time, and bounded by KEPT_BYTES.
    """

    outputs: tuple[Any, ...]

    def only(self, rows: Sequence[int], width: int) -> BlockOutputs:
        """The same pass, some of its rows and its first `width` positions."""
        return BlockOutputs(
            tuple(
                _map_tensors(output, lambda t: t[list(rows), :width] if t.ndim == 3 else t) for output in self.outputs
            )
        )


@dataclass(frozen=True, eq=False)
class ResumePoint:
    """Where a pass resumes from another: the layers below `layer` give what they gave there, and do not run.

    `residual` is the other pass's stream at the reading positions, `written` what its updates wrote there.
    """

    blocks: BlockOutputs
    layer: int
    residual: Float[Tensor, "batch depth d_model"] | None = None
    written: Float[Tensor, "batch layer d_model"] | None = None


@contextmanager
def recording(subject: Subject, positions: int) -> Iterator[list[Any]]:
    """Inside the block every block's output is appended to the list; none where a batch of so many positions is too large."""
    outputs: list[Any] = []
    size = positions * subject.d_model * subject.n_layers * torch.finfo(subject.dtype).bits // 8
    with ExitStack() as undo:
        for block in subject.blocks if size <= KEPT_BYTES else ():
            undo.callback(block.register_forward_hook(lambda _m, _a, output: outputs.append(output)).remove)
        yield outputs


@contextmanager
def resumed(subject: Subject, point: ResumePoint) -> Iterator[None]:
    """Inside the block the model's blocks below the point's layer give what they gave in the other pass, and run nothing."""
    skipped = [vars(block) for block in subject.blocks[: point.layer]]
    # accelerate's hooks are a block's own `forward`, which must be there again afterwards
    before = [attributes.get("forward") for attributes in skipped]
    try:
        for attributes, output in zip(skipped, point.blocks.outputs, strict=False):
            attributes["forward"] = lambda *_, output=output, **__: output
        yield
    finally:
        for attributes, forward in zip(skipped, before, strict=True):
            attributes.pop("forward", None)
            if forward is not None:
                attributes["forward"] = forward


def joined(first: Any, after: Any) -> Any:
    """A block's outputs of two stretches of positions, one after the other; the first is of one row that all rows begin with."""
    if isinstance(after, Tensor):
        return torch.cat([first.expand(len(after), *first.shape[1:]), after], dim=1) if after.ndim == 3 else after
    if isinstance(after, (tuple, list)):
        return type(after)(joined(a, b) for a, b in zip(first, after, strict=True))
    return after


def _map_tensors(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A block's output with its tensors changed, whatever holds them."""
    if isinstance(output, Tensor):
        return change(output)
    return type(output)(_map_tensors(part, change) for part in output) if isinstance(output, (tuple, list)) else output
