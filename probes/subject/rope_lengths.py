"""Rotary frequencies that depend on a text's length (longrope): each row of a batch gets those of its own length."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

_switches: weakref.WeakKeyDictionary[nn.Module, dict[nn.Module, int]] = weakref.WeakKeyDictionary()


def rope_switch(model: nn.Module) -> int | None:
    """The most tokens that a model reads with its short frequencies; None where they do not depend on the length.

    Phi-3's 128k models and others of rope_type "longrope" have one set of frequencies for texts of up to
    original_max_position_embeddings tokens and another for longer ones. A token that goes beyond it changes all keys before it.
    """
    return min(_modules(model).values(), default=None)


@contextmanager
def lengths_apart(model: nn.Module, positions: Int[Tensor, "batch pos"]) -> Iterator[None]:
    """Inside the block each row has the frequencies of its own length; transformers gives all of a batch the longest's."""
    last = positions.amax(1)
    with ExitStack() as undo:
        for module, switch in _modules(model).items():
            longer = last >= switch
            if longer.any() and not longer.all():

                def by_row(ran: nn.Module, args: tuple[Any, ...], named: dict[str, Any], given: Any) -> Any:
                    ids = named["position_ids"] if "position_ids" in named else args[1]
                    rest = {name: value for name, value in named.items() if name not in ("x", "position_ids")}
                    x = named["x"] if "x" in named else args[0]
                    rows = [ran.forward(x, row[None], *args[2:], **rest) for row in ids]
                    return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))

                undo.callback(module.register_forward_hook(by_row, with_kwargs=True).remove)
        yield


def _modules(model: nn.Module) -> dict[nn.Module, int]:
    """Rotary embeddings with two sets of frequencies, and the most positions of the first."""
    if model not in _switches:
        found: dict[nn.Module, int] = {}
        for module in model.modules():
            kind, config = getattr(module, "rope_type", None), getattr(module, "config", None)
            stated = getattr(config, "rope_parameters", None) or {}
            if kind == "longrope":
                found[module] = stated["original_max_position_embeddings"]
            elif isinstance(kind, dict) and "longrope" in kind.values():
                found[module] = min(
                    stated[layer]["original_max_position_embeddings"] for layer in kind if kind[layer] == "longrope"
                )
        _switches[model] = found
    return _switches[model]
