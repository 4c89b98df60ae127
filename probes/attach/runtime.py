"""Running methods that are not weight updates: a batch behind prefixes of keys and values, or inside a method's own block."""

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

#: The same pass of the same model gives the same logits, in any number format, but for the order of a GPU's sums; nats.
TRACE = 1e-4


@dataclass(frozen=True)
class RuntimeBatch:
    """A batch's adapters that are not weight updates, one per row, and how many tokens of each row are the question."""

    adapters: tuple[Prefix | RuntimeAdapter, ...]
    questions: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self.adapters)


def runtime_batch(
    subject: Subject, adapters: Sequence[Prefix | RuntimeAdapter], questions: Sequence[int]
) -> RuntimeBatch:
    """The adapters as one batch. Raises AdapterError for a prefix that has not the shape of the subject's cache."""
    prefixes = [adapter for adapter in adapters if isinstance(adapter, Prefix)]
    needed = _cache_shapes(subject) if prefixes else []
    for prefix in prefixes:
        shapes = [(tensor.shape[0], tensor.shape[2]) for tensor in prefix.keys]
        if shapes != needed or shapes != [(tensor.shape[0], tensor.shape[2]) for tensor in prefix.values]:
            raise AdapterError(
                f"prefix {prefix.name}: {subject.name} caches {len(needed)} layers of (kv_head, d_head) "
                f"{sorted(set(needed))}, got {len(shapes)} of {sorted(set(shapes))}; was it made for another model?"
            )
    return RuntimeBatch(tuple(adapters), tuple(questions))


def batched(subject: Subject, adapters: Sequence[AnyAdapter], questions: Sequence[int]) -> Stack | RuntimeBatch:
    """A batch's adapters: a Stack of weight updates, or a RuntimeBatch. Raises AdapterError as `stack` and `runtime_batch` do."""
    weights = [adapter for adapter in adapters if isinstance(adapter, Adapter)]
    runtime = [adapter for adapter in adapters if not isinstance(adapter, Adapter)]
    assert not (weights and runtime), "a source is static or it is not"
    return stack(subject, weights) if weights else runtime_batch(subject, runtime, questions)


def usable(
    subject: Subject, adapters: Sequence[AnyAdapter], questions: Sequence[int], *, instead: Sequence[AnyAdapter]
) -> tuple[Stack | RuntimeBatch, Sequence[AnyAdapter], dict[int, str]]:
    """A batch's adapters as `batched` gives them, with another in the place of each that cannot act, and why it cannot, by row.

    For adapters that are not the rows' own: that one of them is broken is no fault of the item read under it.
    """
    try:
        return batched(subject, adapters, questions), adapters, {}
    except AdapterError:
        able, reasons = list(adapters), {}
        for n, (adapter, tokens) in enumerate(zip(adapters, questions, strict=True)):
            try:
                batched(subject, [adapter], [tokens])
            except AdapterError as fault:
                able[n], reasons[n] = instead[n], str(fault)
        return batched(subject, able, questions), able, reasons


def prefix_length(adapter: object) -> int:
    """How many of the model's positions an adapter takes up before the first token."""
    return adapter.positions if isinstance(adapter, Prefix) else 0


def acting_rows(gains: Float[Tensor, "batch layer"]) -> list[int]:
    """The rows at gain 1. Raises AdapterError where a gain is neither 0 nor 1, or where a row's layers differ."""
    on = gains[:, 0] == 1
    if not torch.equal(gains, on[:, None].expand_as(gains).to(gains.dtype)):
        raise AdapterError(f"gains must be 0 or 1, the same at all layers: {NO_AMPLITUDE}")
    return on.nonzero().flatten().tolist()


def cached_prefix(subject: Subject, prefixes: Sequence[Prefix]) -> CachedPrefix:
    """Prefixes as a cache of keys and values, shorter ones padded on the left and hidden by the mask.

    A forward pass appends to the cache, so every pass needs a new one.
    """
    from transformers import DynamicCache

    width = max(prefix.positions for prefix in prefixes)
    cache = DynamicCache(config=subject.model.config)
    mask = torch.zeros(len(prefixes), width, dtype=torch.long)
    for n, prefix in enumerate(prefixes):
        mask[n, width - prefix.positions :] = 1
    for layer in range(subject.n_layers):
        device = runs_on(subject.blocks[layer])
        keys, values = (
            torch.stack([_padded(tensors[layer], width) for tensors in side]).to(device, subject.dtype)
            for side in ([p.keys for p in prefixes], [p.values for p in prefixes])
        )
        cache.update(keys, values, layer)
    return CachedPrefix(cache, mask.to(subject.device))


@torch.no_grad()
def final_states(
    subject: Subject, batch: Batch, adapters: RuntimeBatch, rows: Sequence[int]
) -> Float[Tensor, "read d_model"]:
    """The final normalised state at `batch.at` of these rows, each under its adapter.

    Rows behind prefixes run together. Any other row runs by itself and ends where it is read: a method that looks at its
    input must see neither padding nor later answer tokens, on which the reading must not depend.
    """
    states: dict[int, Float[Tensor, " d_model"]] = {}
    behind = [n for n in rows if isinstance(adapters.adapters[n], Prefix)]
    if behind:
        prefixed = Batch(batch.ids[behind], batch.mask[behind], batch.at[behind], batch.shift[behind])
        prefixes = [a for a in (adapters.adapters[n] for n in behind) if isinstance(a, Prefix)]
        final = forward(subject, prefixed, prefixed.at[:, None], past=cached_prefix(subject, prefixes)).final[:, 0]
        states |= dict(zip(behind, final, strict=True))
    alone = [n for n in rows if n not in states]
    with leaving_no_trace(subject, [adapters.adapters[n] for n in alone]):
        for n in alone:
            tokens = batch.ids[n][batch.mask[n].bool()][: int(batch.at[n] - batch.shift[n]) + 1]
            row = Batch(
                tokens[None], torch.ones_like(tokens)[None], tokens.new_tensor([len(tokens) - 1]), tokens.new_zeros(1)
            )
            with acting(subject, adapters.adapters[n], tokens[: adapters.questions[n]]):
                states[n] = forward(subject, row, row.at[:, None]).final[0, 0]
    return torch.stack([states[n] for n in rows])


@contextmanager
def acting(subject: Subject, adapter: Prefix | RuntimeAdapter, question: Int[Tensor, " pos"]) -> Iterator[None]:
    """Inside the block the adapter acts; what its code raises becomes an AdapterError with the adapter's name."""
    assert not isinstance(adapter, Prefix)
    with (
        as_adapter_error(f"adapter {adapter.name}: it failed while acting"),
        current_folder_last(),
        adapter.acting(subject, question),
    ):
        yield


@contextmanager
def leaving_no_trace(subject: Subject, adapters: Sequence[Prefix | RuntimeAdapter]) -> Iterator[None]:
    """Raise AdapterError at the end of the block if the subject's own logits are not what they were before the adapters acted."""
    if not adapters:
        yield
        return
    before = subject.probe_logits()
    yield
    moved = (subject.probe_logits() - before).abs().max().item()
    if not moved <= TRACE:
        raise AdapterError(
            f"adapter {adapters[0].name} left a trace: outside its block the base's logits now differ by {moved:.3g} nats"
        )


def _cache_shapes(subject: Subject) -> list[tuple[int, int]]:
    """(kv_head, d_head) of each layer, from what the model itself caches for one token."""
    token = torch.zeros(1, 1, dtype=torch.long, device=subject.device)
    with torch.no_grad():
        cache = subject.decoder(input_ids=token, use_cache=True).past_key_values
    from transformers.cache_utils import LinearAttentionCacheLayerMixin

    layers = getattr(cache, "layers", [])
    tensors = [getattr(layer, "keys", None) for layer in layers]
    if len(tensors) != subject.n_layers or not all(isinstance(t, Tensor) and t.ndim == 4 for t in tensors):
        raise AdapterError(
            f"{subject.name} does not cache keys and values at every layer, so no prefix can be put in front of it"
        )
    if any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers):
        raise AdapterError(
            f"{subject.name} keeps a recurrent state beside keys and values, which a prefix of keys and values does not hold"
        )
    return [(t.shape[1], t.shape[3]) for t in tensors if isinstance(t, Tensor)]


def _padded(tensor: Float[Tensor, "kv_head prefix d_head"], width: int) -> Float[Tensor, "kv_head width d_head"]:
    """Keys or values with zeros on the left."""
    padded = torch.zeros(tensor.shape[0], width, tensor.shape[2])
    padded[:, width - tensor.shape[1] :] = tensor.detach().float().cpu()
    return padded
