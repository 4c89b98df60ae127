"""How a module's input holds the rows of a batch: in order, as some tokens only, or so that they cannot be told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

#: Tokens per row that layouts are measured on.
POSITIONS = 5

Layout = Literal["rows", "selection", "unknown"]


@dataclass(eq=False)
class RowLayouts:
    """The layouts of a model's modules, each measured when it is first asked for, then remembered.

    `rows`: one batch row after the other, each with equally many vectors: [batch, pos, d], tokens flattened to [batch * pos,
    d], heads in [batch, pos, head, d]. `selection`: some of the tokens, as a routed expert sees. `unknown`: anything else,
    or a module that did not run. Measured with two rows together and each alone, so that an input with positions in front
    is not taken for one with rows in front.
    """

    decoder: nn.Module
    model: Any
    measured: dict[str, Layout] = field(default_factory=dict)

    def of(self, paths: Sequence[str]) -> dict[str, Layout]:
        """The layouts of these modules' inputs, by path."""
        missing = [path for path in dict.fromkeys(paths) if path not in self.measured]
        if missing:
            self.measured |= self._measure(missing)
        return {path: self.measured[path] for path in paths}

    @torch.no_grad()
    def _measure(self, paths: Sequence[str]) -> dict[str, Layout]:
        embedding = self.model.get_input_embeddings().weight
        ids = torch.arange(1, 2 * POSITIONS + 1, device=embedding.device).reshape(2, -1) % embedding.shape[0]
        together, first, second = (self._inputs(paths, rows) for rows in (ids, ids[:1], ids[1:]))
        layouts: dict[str, Layout] = {path: _layout(together[path], first[path], second[path]) for path in paths}
        selections = {_kind(path) for path, layout in layouts.items() if layout == "selection"}
        # an expert that no token of these was sent to is as its siblings are
        unrun = [path for path in paths if not (together[path] or first[path] or second[path])]
        for path in unrun:
            if _kind(path) in selections:
                layouts[path] = "selection"
        return layouts

    def _inputs(self, paths: Sequence[str], ids: Int[Tensor, "batch pos"]) -> dict[str, list[Tensor]]:
        """What each module saw in one pass, call by call, its vectors in their order."""
        seen: dict[str, list[Tensor]] = {path: [] for path in paths}
        with ExitStack() as undo:
            for path in paths:

                def note(_: nn.Module, args: tuple[Any, ...], path: str = path) -> None:
                    if args and isinstance(args[0], Tensor):
                        seen[path].append(args[0].reshape(-1, args[0].shape[-1]).float())

                undo.callback(self.model.get_submodule(path).register_forward_pre_hook(note).remove)
            self.decoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        return seen


def rows_of(x: Tensor, layout: Layout, batch: int, positions: int) -> Float[Tensor, "batch vectors d"] | None:
    """A module's input with the batch's rows in front, each with its vectors; None where they cannot be told apart.

    `positions` is how many tokens each row is fed, 0 where that is not known.
    """
    width = x.shape[-1]
    if x.ndim == 3 and len(x) == batch and (layout == "rows" or x.shape[1] == positions != batch):
        return x
    if batch == 1:  # whatever the module sees is of this row
        return x.reshape(1, -1, width)
    in_order = layout == "rows" and positions and (x.numel() // width) % (batch * positions) == 0
    return x.reshape(batch, -1, width) if in_order else None


def _layout(together: Sequence[Tensor], first: Sequence[Tensor], second: Sequence[Tensor]) -> Layout:
    """The layout of an input, from what two rows gave together and each alone."""
    if not together or not (len(together) == len(first) == len(second)):
        return "selection" if together else "unknown"
    for both, one, other in zip(together, first, second, strict=True):
        if len(one) != len(other) or len(one) % POSITIONS or len(both) != len(one) + len(other):
            # of a module that sees every token, a row gives equally many vectors
            return "selection" if len(both) <= 2 * POSITIONS else "unknown"
        same = (both - torch.cat([one, other])).norm()
        swapped = (both - torch.stack([one, other], dim=1).reshape(both.shape)).norm()
        # nearer by far than the other order is: batches of two sizes round otherwise, and more so in half precision
        if not (same < 0.5 * swapped or same <= 1e-4 * both.norm()):
            return "unknown"
    return "rows"


def _kind(path: str) -> str:
    return re.sub(r"\d+", "#", path)
