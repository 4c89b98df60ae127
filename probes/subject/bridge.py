"""Wrapping: a TransformerBridge over a live Hugging Face model, its components in place only where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, eq=False)
class BridgedModel:
    """A bridge, and where its components go: (parent, name, the model's own module, the bridge's) each.

    The bridge says which modules are the blocks, the norms and the unembedding, for every architecture that TransformerLens
    knows. Running through its components costs a pass on SmolLM2 a tenth more, and one on the organism two thirds more (each
    norm is computed twice, and every map has two hook points), so that the model runs its own modules unless it is asked.
    """

    bridge: Any
    places: tuple[tuple[nn.Module, str, nn.Module, nn.Module], ...]

    @classmethod
    def over(cls, model: Any, tokenizer: Any, name: str, device: torch.device) -> BridgedModel:
        """Wrap a model, which keeps its own modules. Raises ValueError where TransformerLens does not know it."""
        from transformer_lens.model_bridge import TransformerBridge

        # not named_children, which tells a module that has two names once
        before = [
            (parent, key, own) for parent in model.modules() for key, own in parent._modules.items() if own is not None
        ]
        bridge = TransformerBridge.boot_transformers(name, hf_model=model, tokenizer=tokenizer, device=str(device))
        places = tuple(
            (parent, key, own, now) for parent, key, own in before if (now := getattr(parent, key)) is not own
        )
        found = cls(bridge, places)
        found._put(own=True)
        return found

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The model's own blocks, in order."""
        return tuple(block.original_component for block in self.bridge.blocks)

    @contextmanager
    def as_bridge(self) -> Iterator[Any]:
        """Inside the block the model runs through the bridge's components, whose hook points fire."""
        self._put(own=False)
        try:
            yield self.bridge
        finally:
            self._put(own=True)

    def _put(self, *, own: bool) -> None:
        for parent, key, theirs, ours in self.places:
            setattr(parent, key, theirs if own else ours)
