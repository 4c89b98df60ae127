"""Structure: a model's blocks and final norm, by what runs in one pass, else as TransformerLens states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Structure:
    """The parts of a model that readings need: its blocks, its final norm (None where none ends it), the stream's width.

    Where more than a norm turns the last block's output into the final state, as the projection of OPT-350m does, `final_norm`
    is all of it.
    """

    blocks: tuple[nn.Module, ...]
    final_norm: nn.Module | None
    d_model: int


def decoder_of(model: Any) -> nn.Module:
    """The part of a causal model that ends in the final state: all but the unembedding."""
    decoder = model.base_model
    # Llama 4's text model names a prefix that it does not have, and is then its own base model
    return model.model if decoder is model else decoder


@torch.no_grad()
def find_structure(model: Any, probe_ids: Tensor) -> Structure:
    """The structure of a model, from one pass over `probe_ids`.

    The blocks are the modules of the decoder's list that run in order, each once; the final norm is what runs behind the last
    of them. Raises ValueError where no such list exists, or where the last block's output, through the
    final norm if there is one, does not give the final state.
    """
    decoder = decoder_of(model)
    count = int(model.config.get_text_config().num_hidden_layers)
    # breadth first, so that a list of the model's layers comes before a list within a layer
    lists = sorted(
        (name.count("."), name)
        for name, m in decoder.named_modules()
        if isinstance(m, nn.ModuleList) and len(m) == count
    )
    if not lists:
        raise ValueError(f"it has no list of {count} layers")
    layers = decoder.get_submodule(lists[0][1])
    blocks = tuple(layers.children())
    outputs: dict[int, Tensor] = {}
    order: list[int] = []

    def note(number: int, output: Any) -> None:
        first = output[0] if isinstance(output, tuple | list) else output
        if isinstance(first, Tensor):
            order.append(number)
            outputs[number] = first

    inside = {module for block in blocks for module in block.modules()}
    ends = [m for m in decoder.modules() if m not in inside and not any(part is layers for part in m.modules())]
    watched = [*blocks, *ends]
    handles = [
        module.register_forward_hook(lambda _m, _i, output, n=n: note(n, output)) for n, module in enumerate(watched)
    ]
    try:
        final = decoder(input_ids=probe_ids, use_cache=False).last_hidden_state
    finally:
        for handle in handles:
            handle.remove()
    if [n for n in order if n < count] != list(range(count)):
        raise ValueError("its layers do not run in order, each once")
    last = outputs[count - 1]
    # what runs behind the last layer; the part of a part is not run again
    behind = [watched[n] for n in order[order.index(count - 1) + 1 :] if n >= count]
    behind = [m for m in behind if not any(m is not other and m in set(other.modules()) for other in behind)]
    through = last
    for module in behind:
        through = module(through)
    if not torch.equal(through, final):
        raise ValueError("its final state is not the last layer's output, or what the modules behind it make of that")
    end = behind[0] if len(behind) == 1 else nn.Sequential(*behind) if behind else None
    return Structure(blocks, end, last.shape[-1])


def structure_of_bridge(bridge: Any) -> Structure:
    """The structure that TransformerLens states. Raises ValueError where it names no final norm."""
    if not hasattr(bridge, "ln_final"):
        raise ValueError("TransformerLens names no final norm")
    return Structure(
        blocks=tuple(block.original_component for block in bridge.blocks),
        final_norm=bridge.ln_final.original_component,
        d_model=int(bridge.cfg.d_model),
    )
