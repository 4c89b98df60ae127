"""A beginning that all rows of a batch have in common, run once for all: the chat template in front of every question."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import KEPT_BYTES, BlockOutputs, joined
from override_gap.probes.subject.rope_lengths import rope_switch

SHORTEST, FEWEST = 16, 4
"""Of fewer positions, or for fewer rows, a second pass costs more than it saves."""


@dataclass(frozen=True, eq=False)
class SharedPrefix:
    """The first `length` positions of every row: their keys and values, repeated for every row."""

    length: int
    cache: Any

    @classmethod
    def of(
        cls, subject: Subject, ids: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"], first_read: int
    ) -> SharedPrefix | None:
        """Run what all rows begin with, up to the first position read; None where that is short or cannot be shared.

        `can_share` says of which models it can; the caller asks before it registers hooks of its own.
        """
        length = min(common_length(ids, mask), first_read)
        if length < SHORTEST or len(ids) < FEWEST:
            return None
        cache = DynamicCache(config=subject.model.config)
        positions = torch.arange(length, device=ids.device)[None]
        subject.decoder(
            input_ids=ids[:1, :length],
            attention_mask=mask[:1, :length],
            position_ids=positions,
            use_cache=True,
            past_key_values=cache,
        )
        layers = cast(list[DynamicLayer], cache.layers)  # as `can_share` found
        held = [tensor for layer in layers for tensor in (layer.keys, layer.values) if tensor is not None]
        size = sum(tensor.numel() * tensor.element_size() for tensor in held) * len(ids)
        if size > KEPT_BYTES or any(layer.get_seq_length() != length for layer in layers):
            return None
        cache.batch_repeat_interleave(len(ids))
        return cls(length, cache)


def with_prefix(prefix: BlockOutputs, rest: BlockOutputs) -> BlockOutputs:
    """What every block gave, of a prefix that was run once and of the rows behind it, as one pass over all would give it."""
    return BlockOutputs(tuple(joined(first, after) for first, after in zip(prefix.outputs, rest.outputs, strict=True)))


def common_length(ids: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"]) -> int:
    """How many tokens all rows begin with; 0 where a row is padded in front."""
    same = ((ids == ids[:1]) & (mask == 1)).all(0)
    return int(same.long().cumprod(0).sum())


def can_share(subject: Subject) -> bool:
    """Whether two passes over parts of a row surely give what one gives over the whole.

    Only of the library's own models, whose layers keep keys and values alone, under an attention that it makes masks for. Not
    where frequencies depend on a text's length, where quantised maps may round by what else is in a batch, or where hooks or
    forwards of others, an offload's among them, see the positions of a pass.
    """
    model, config = subject.model, subject.model.config
    attention = getattr(config, "_attn_implementation", None)
    if (
        not type(subject.decoder).__module__.startswith("transformers.")
        or attention not in ALL_MASK_ATTENTION_FUNCTIONS
    ):
        return False
    if getattr(config, "quantization_config", None) is not None or rope_switch(subject.decoder) is not None:
        return False
    if "past_key_values" not in inspect.signature(subject.decoder.forward).parameters:
        return False
    if any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in model.modules()):
        return False
    try:
        layers = DynamicCache(config=config).layers
    except (KeyError, ValueError, AttributeError):  # a configuration that the library makes no cache for
        return False
    return bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
