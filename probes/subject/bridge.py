"""A TransformerBridge over a live Hugging Face model, its components in place only while they are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, eq=False)
class BridgedModel:
    """A bridge and the places of its components: (parent, attribute, the model's own module, the bridge's) per place.

    The bridge says which modules are the blocks, the norms and the unembedding, for every architecture that TransformerLens
    knows. Running through its components makes each pass 10% slower on SmolLM2 and two thirds slower on the organism (each
    norm is computed twice, and every map has two hook points), so the model runs its own modules except in `as_bridge`.
    """

    bridge: Any
    places: tuple[tuple[nn.Module, str, nn.Module, nn.Module], ...]

    @classmethod
    def over(cls, model: Any, tokenizer: Any, name: str, device: torch.device) -> BridgedModel:
        """Wrap a model, which keeps its own modules. Raises ValueError where TransformerLens does not know it."""
        from transformer_lens.model_bridge import TransformerBridge

        # not named_children, which lists a module with two names only once
        before = [
            (parent, key, module)
            for parent in model.modules()
            for key, module in parent._modules.items()
            if module is not None
        ]
        bridge = TransformerBridge.boot_transformers(name, hf_model=model, tokenizer=tokenizer, device=str(device))
        places = tuple(
            (parent, key, module, component)
            for parent, key, module in before
            if (component := getattr(parent, key)) is not module
        )
        bridged = cls(bridge, places)
        bridged._put_in_place(components=False)
        return bridged

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The model's own blocks, in order."""
        return tuple(block.original_component for block in self.bridge.blocks)

    @contextmanager
    def as_bridge(self) -> Iterator[Any]:
        """Inside the block the model runs through the bridge's components, whose hook points fire."""
        self._put_in_place(components=True)
        try:
            yield self.bridge
        finally:
            self._put_in_place(components=False)

    def _put_in_place(self, *, components: bool) -> None:
        for parent, key, module, component in self.places:
            setattr(parent, key, component if components else module)
