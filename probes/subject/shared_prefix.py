"""A beginning that all rows of a batch have in common, run once for all: the chat template in front of every question."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import BlockOutputs, joined
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

        It can where every layer keeps keys and values alone and frequencies do not depend on a text's length.
        """
        length = min(common_length(ids, mask), first_read)
        if length < SHORTEST or len(ids) < FEWEST or not _can_share(subject):
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
        cache.batch_repeat_interleave(len(ids))
        return cls(length, cache)


def with_prefix(prefix: BlockOutputs, rest: BlockOutputs) -> BlockOutputs:
    """What every block gave, of a prefix that was run once and of the rows behind it, as one pass over all would give it."""
    return BlockOutputs(tuple(joined(first, after) for first, after in zip(prefix.outputs, rest.outputs, strict=True)))


def common_length(ids: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"]) -> int:
    """How many tokens all rows begin with; 0 where a row is padded in front."""
    same = ((ids == ids[:1]) & (mask == 1)).all(0)
    return int(same.long().cumprod(0).sum())


def _can_share(subject: Subject) -> bool:
    if "past_key_values" not in inspect.signature(subject.decoder.forward).parameters:
        return False
    layers = DynamicCache(config=subject.model.config).layers
    kinds_known = bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    return kinds_known and rope_switch(subject.decoder) is None
