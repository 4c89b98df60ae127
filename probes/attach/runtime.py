"""Opaque methods at work: a batch behind prefixes of keys and values, or inside a method's own block, as delivered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.adapter import Adapter, AnyAdapter
from override_gap.margins.runtime import NO_AMPLITUDE, Prefix, RuntimeAdapter
from override_gap.probes.attach.stack import Stack, stack
from override_gap.probes.environment import current_folder_last
from override_gap.probes.errors import AdapterError, as_adapter_error
from override_gap.probes.subject.devices import runs_on
from override_gap.probes.subject.forward import Batch, CachedPrefix, forward
from override_gap.probes.subject.model import Subject


@dataclass(frozen=True)
class RuntimeBatch:
    """The opaque adapters of a batch, one a row, and how many tokens of each row are the question."""

    adapters: tuple[Prefix | RuntimeAdapter, ...]
    questions: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many rows."""
        return len(self.adapters)


def runtime_batch(
    subject: Subject, adapters: Sequence[Prefix | RuntimeAdapter], questions: Sequence[int]
) -> RuntimeBatch:
    """Put adapters side by side. Raises AdapterError for a prefix that is not of the subject's shape."""
    prefixes = [adapter for adapter in adapters if isinstance(adapter, Prefix)]
    wanted = _cache_shapes(subject) if prefixes else []
    for prefix in prefixes:
        came = [(tensor.shape[0], tensor.shape[2]) for tensor in prefix.keys]
        if came != wanted or came != [(tensor.shape[0], tensor.shape[2]) for tensor in prefix.values]:
            raise AdapterError(
                f"prefix {prefix.name}: {subject.name} caches {len(wanted)} layers of (kv_head, d_head) "
                f"{sorted(set(wanted))}, got {len(came)} of {sorted(set(came))}; was it made for another model?"
            )
    return RuntimeBatch(tuple(adapters), tuple(questions))


def batched(subject: Subject, adapters: Sequence[AnyAdapter], questions: Sequence[int]) -> Stack | RuntimeBatch:
    """A batch's adapters, updates of the weights or opaque ones; raises AdapterError as `stack` and `group` do."""
    weights = [adapter for adapter in adapters if isinstance(adapter, Adapter)]
    others = [adapter for adapter in adapters if not isinstance(adapter, Adapter)]
    assert not (weights and others), "a source is static or it is not"
    return stack(subject, weights) if weights else runtime_batch(subject, others, questions)


def prefix_length(adapter: object) -> int:
    """How many of the model's positions an adapter takes up before the first token."""
    return adapter.positions if isinstance(adapter, Prefix) else 0


def acting_rows(gains: Float[Tensor, "batch layer"]) -> list[int]:
    """The rows at gain 1. Raises AdapterError where a gain is neither 0 nor 1, or where a row's layers differ."""
    on = gains[:, 0] == 1
    if not torch.equal(gains, on[:, None].expand_as(gains).to(gains.dtype)):
        raise AdapterError(f"an opaque adapter takes gain 0 or 1 at all layers alike: {NO_AMPLITUDE}")
    return on.nonzero().flatten().tolist()


def cached_prefix(subject: Subject, prefixes: Sequence[Prefix]) -> CachedPrefix:
    """Prefixes as a cache of the model's own, shorter ones padded on the left and hidden by the mask.

    A forward pass appends to it, so every pass needs a new one.
    """
    from transformers import DynamicCache

    width = max(prefix.positions for prefix in prefixes)
    cache = DynamicCache(config=subject.model.config)
    mask = torch.zeros(len(prefixes), width, dtype=torch.long)
    for n, prefix in enumerate(prefixes):
        mask[n, width - prefix.positions :] = 1
    for layer in range(subject.n_layers):
        place = runs_on(subject.blocks[layer])
        keys, values = (
            torch.stack([_padded(tensors[layer], width) for tensors in side]).to(place, subject.dtype)
            for side in ([p.keys for p in prefixes], [p.values for p in prefixes])
        )
        cache.update(keys, values, layer)
    return CachedPrefix(cache, mask.to(subject.device))


@torch.no_grad()
def final_states(
    subject: Subject, batch: Batch, acting: RuntimeBatch, rows: Sequence[int]
) -> Float[Tensor, "read d_model"]:
    """The final normalised state at `batch.at` of these rows, each under its adapter.

    Rows behind prefixes run together. Any other row runs alone and ends where it is read: a method that looks at its
    input must not see padding, nor answer tokens that the reading may not depend on.
    """
    found: dict[int, Float[Tensor, " d_model"]] = {}
    behind = [n for n in rows if isinstance(acting.adapters[n], Prefix)]
    if behind:
        part = Batch(batch.ids[behind], batch.mask[behind], batch.at[behind], batch.shift[behind])
        prefixes = [a for a in (acting.adapters[n] for n in behind) if isinstance(a, Prefix)]
        final = forward(subject, part, part.at[:, None], past=cached_prefix(subject, prefixes)).final[:, 0]
        found |= dict(zip(behind, final, strict=True))
    alone = [n for n in rows if n not in found]
    with untouched(subject, [acting.adapters[n] for n in alone]):
        for n in alone:
            tokens = batch.ids[n][batch.mask[n].bool()][: int(batch.at[n] - batch.shift[n]) + 1]
            one = Batch(
                tokens[None], torch.ones_like(tokens)[None], tokens.new_tensor([len(tokens) - 1]), tokens.new_zeros(1)
            )
            with inside(subject, acting.adapters[n], tokens[: acting.questions[n]]):
                found[n] = forward(subject, one, one.at[:, None]).final[0, 0]
    return torch.stack([found[n] for n in rows])


@contextmanager
def inside(subject: Subject, adapter: Prefix | RuntimeAdapter, question: Int[Tensor, " pos"]) -> Iterator[None]:
    """The method's own block; what its code raises is an AdapterError with the adapter's name."""
    assert not isinstance(adapter, Prefix)
    with (
        as_adapter_error(f"adapter {adapter.name}: it failed while acting"),
        current_folder_last(),
        adapter.acting(subject, question),
    ):
        yield


@contextmanager
def untouched(subject: Subject, adapters: Sequence[Prefix | RuntimeAdapter]) -> Iterator[None]:
    """Raise AdapterError if the subject's own logits are not what they were once the adapters have acted."""
    before = subject.parity() if adapters else 0.0
    yield
    after = subject.parity() if adapters else 0.0
    if not abs(after - before) <= subject.parity_tolerance() / 10:
        raise AdapterError(
            f"adapter {adapters[0].name} left a trace: outside its block the base's logits now differ by {after:.3g} nats"
        )


def _cache_shapes(subject: Subject) -> list[tuple[int, int]]:
    """(kv_head, d_head) of each layer, from what the model itself caches for one token."""
    token = torch.zeros(1, 1, dtype=torch.long, device=subject.device)
    with torch.no_grad():
        kept = subject.model.base_model(input_ids=token, use_cache=True).past_key_values
    layers = getattr(kept, "layers", [])
    tensors = [getattr(layer, "keys", None) for layer in layers]
    if len(tensors) != subject.n_layers or not all(isinstance(t, Tensor) and t.ndim == 4 for t in tensors):
        raise AdapterError(
            f"{subject.name} does not cache keys and values at every layer, so no prefix can be put there"
        )
    return [(t.shape[1], t.shape[3]) for t in tensors if isinstance(t, Tensor)]


def _padded(tensor: Float[Tensor, "kv_head prefix d_head"], width: int) -> Float[Tensor, "kv_head width d_head"]:
    out = torch.zeros(tensor.shape[0], width, tensor.shape[2])
    out[:, width - tensor.shape[1] :] = tensor.detach().float().cpu()
    return out
