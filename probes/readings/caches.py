"""Caches of answers: keys and values, recurrent states, or none where a model has no cache that can be relied on."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, LinearAttentionCacheLayerMixin

from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.parity import unit_roundoff
from override_gap.probes.subject.rope_lengths import lengths_apart
from override_gap.probes.subject.tokens import pad
from override_gap.probes.timing import timed

CacheKind = Literal["keys", "recurrent", "none"]
#: What decoders call the cache that they take.
NAMES = ("past_key_values", "cache_params")

_kinds: weakref.WeakKeyDictionary[Any, CacheKind] = weakref.WeakKeyDictionary()


def cache_kind(subject: Subject) -> CacheKind:
    """How a subject's answers are written; found once per model.

    "keys": a cache of keys and values at every layer, rows padded on the left. "recurrent": some layers keep a state that
    every token changes (state-space and linear-attention models), padding included, so rows of one length run together.
    "none": every token by a whole pass, for models without such a cache, or whose cache gives other logits than a pass
    without it on a few tokens: with rows dropped, as answers of unequal length need.
    """
    if subject.model not in _kinds:
        _kinds[subject.model] = _kind(subject)
    return _kinds[subject.model]


def new_cache(subject: Subject) -> Cache:
    """An empty cache, its layers as the model's configuration states them."""
    return DynamicCache(config=subject.model.config)


def keep_rows(cache: Cache, rows: Sequence[int]) -> None:
    """Drop the other rows of a cache."""
    chosen = torch.tensor(list(rows))  # on the CPU: the cache's layers may lie on several devices
    if all(hasattr(layer, "batch_select_indices") for layer in cache.layers):
        cache.batch_select_indices(chosen)
    else:
        cache.reorder_cache(cast(Any, chosen))


def step(
    subject: Subject, cache: Cache, fed: Int[Tensor, "batch new"], mask: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch vocab"]:
    """Float32 logits after the tokens fed, the cache holding those before them."""
    positions = (mask.cumsum(1) - 1)[:, -fed.shape[1] :].clamp(0, (subject.max_positions or mask.shape[1]) - 1)
    named: dict[str, Any] = {_cache_name(subject): cache}
    with timed("model"), lengths_apart(subject.decoder, positions):
        out = subject.decoder(input_ids=fed, attention_mask=mask, position_ids=positions, use_cache=True, **named)
    return subject.logits(out.last_hidden_state[:, -1])


def logits_after(subject: Subject, tokens: Sequence[Sequence[int]]) -> Float[Tensor, "batch vocab"]:
    """Float32 logits after each row's last token, by one pass without a cache, padded on the right."""
    ids, mask = pad(tokens)
    last = mask.sum(1) - 1
    batch = Batch(*(t.to(subject.device) for t in (ids, mask, last, torch.zeros_like(last))))
    return subject.logits(forward(subject, batch, batch.at[:, None]).final[:, 0])


def _kind(subject: Subject) -> CacheKind:
    layers = new_cache(subject).layers
    recurrent = any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)
    has_keys = bool(layers) and all(isinstance(layer, CacheLayerMixin) for layer in layers)
    if _cache_name(subject) not in inspect.signature(subject.decoder.forward).parameters:
        return "none"
    if recurrent:
        return "recurrent" if _agrees(subject) else "none"
    return "keys" if (has_keys or not layers) and _holds_positions(subject) else "none"


def _cache_name(subject: Subject) -> str:
    taken = inspect.signature(subject.decoder.forward).parameters
    return next((name for name in NAMES if name in taken), NAMES[0])


@torch.no_grad()
def _holds_positions(subject: Subject) -> bool:
    """Whether a cache of keys and values holds as many positions as were fed."""
    cache = new_cache(subject)
    ids = torch.tensor([subject.probe[:3]], device=subject.device)
    try:
        step(subject, cache, ids, torch.ones_like(ids))
        return cache.get_seq_length() == ids.shape[1]
    except (TypeError, ValueError, AttributeError):  # a model with a cache of its own
        return False


@torch.no_grad()
def _agrees(subject: Subject) -> bool:
    """Whether two rows through the cache, then one of them alone, have the logits of passes without it."""
    probe = [*subject.probe, *subject.probe][:9]
    rows = [probe[:6], probe[2:8]]
    try:
        cache = new_cache(subject)
        ids = torch.tensor(rows, device=subject.device)
        ours = [step(subject, cache, ids, torch.ones_like(ids))]
        rows = [[*row, token] for row, token in zip(rows, probe[3:5], strict=True)]
        ids = torch.tensor(rows, device=subject.device)
        ours.append(step(subject, cache, ids[:, -1:], torch.ones_like(ids)))
        keep_rows(cache, [1])
        last = torch.tensor([[*rows[1], probe[8]]], device=subject.device)
        ours.append(step(subject, cache, last[:, -1:], torch.ones_like(last)))
    except (TypeError, ValueError, AttributeError, RuntimeError, NotImplementedError):  # not made to be used so
        return False
    whole = [logits_after(subject, [row[:6] for row in rows]), logits_after(subject, rows)]
    whole.append(logits_after(subject, last.tolist()))
    tolerance = max(1e-3, 16 * unit_roundoff(subject.coarsest_dtype) * whole[0].abs().max().item())
    return all(bool(((a - b).abs() <= tolerance).all()) for a, b in zip(ours, whole, strict=True))
