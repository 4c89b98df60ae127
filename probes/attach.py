"""Adapters as hooks: one adapter per example of a batch, one gain per layer, no trace left on exit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from margins.adapter import Adapter, layer_of
from margins.updates import LowRank, Update
from probes.sites import AdapterError, nearest
from probes.subject import Subject

Watch = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class Factors:
    """One site's updates for a whole batch: B A, each example's scale folded into B, ranks padded with zeros."""

    A: Float[Tensor, "batch rank d_in"]
    B: Float[Tensor, "batch d_out rank"]

    def __call__(
        self, x: Float[Tensor, "batch pos d_in"], gain: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch pos d_out"]:
        """gain * B A x. The gain multiplies in float32: rounding it to bf16 would bias every position alike."""
        inner = torch.bmm(x, self.A.to(x.dtype).transpose(1, 2))
        inner = (inner.float() * gain[:, None, None]).to(x.dtype)
        return torch.bmm(inner, self.B.to(x.dtype).transpose(1, 2))

    def rows(self, span: slice) -> Factors:
        """The part of the update that writes these outputs."""
        return self if span == slice(0, self.B.shape[1]) else Factors(self.A, self.B[:, span])


@dataclass(frozen=True)
class Matrices:
    """One site's updates for a whole batch as matrices."""

    delta: Float[Tensor, "batch d_out d_in"]

    def __call__(
        self, x: Float[Tensor, "batch pos d_in"], gain: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch pos d_out"]:
        """gain * delta x."""
        out = torch.bmm(x, self.delta.to(x.dtype).transpose(1, 2))
        return (out.float() * gain[:, None, None]).to(x.dtype)

    def rows(self, span: slice) -> Matrices:
        """The part of the update that writes these outputs."""
        return self if span == slice(0, self.delta.shape[1]) else Matrices(self.delta[:, span])


@dataclass(frozen=True)
class Stack:
    """The adapters of a batch, by site; example n of a batch runs with adapter n."""

    sites: Mapping[str, Factors | Matrices]
    size: int


def check(subject: Subject, adapter: Adapter) -> None:
    """Raise AdapterError unless every update names a linear map of the model, has its shape, is finite, and any is not zero."""
    largest = 0.0
    for path, update in adapter.parts():
        site = subject.sites.get(path)
        if site is None:
            near = nearest(path, subject.sites)
            raise AdapterError(f"adapter {adapter.name}: the model has no linear map {path!r}; the nearest is {near!r}")
        if update.shape != (site.d_out, site.d_in):
            raise AdapterError(
                f"adapter {adapter.name}: {path} needs an update of shape {[site.d_out, site.d_in]}, got {list(update.shape)}; "
                "was it made for another model?"
            )
        size = update.frobenius()
        if not size < float("inf"):
            raise AdapterError(f"adapter {adapter.name}: the update of {path} is not finite")
        largest = max(largest, size)
    if largest == 0.0:
        reason = "it has no updates" if not adapter.paths else "all of its updates are zero"
        raise AdapterError(f"adapter {adapter.name} changes nothing: {reason}")


def stack(subject: Subject, adapters: Sequence[Adapter]) -> Stack:
    """Put adapters side by side, document and shared part of a site joined along the rank; raises AdapterError."""
    for adapter in adapters:
        check(subject, adapter)
    paths = dict.fromkeys(path for adapter in adapters for path in adapter.paths)
    return Stack({path: _side_by_side(subject, path, adapters) for path in paths}, len(adapters))


@contextmanager
def attached(
    subject: Subject, adapters: Stack, gains: Float[Tensor, "batch layer"], *, watch: Watch | None = None
) -> Iterator[Subject]:
    """Add gain * update at every site of every example; on exit, also after an error, the subject is as it was.

    `watch` is shown what each update adds to its map's output. Raises AdapterError if a site was never run inside the
    block: its update would have been silently ignored.
    """
    reached: set[str] = set()
    ran = False

    def saw_forward(*_: Any) -> None:
        nonlocal ran
        ran = True

    with ExitStack() as undo:
        undo.callback(subject.model.base_model.register_forward_hook(saw_forward).remove)
        for path, update in adapters.sites.items():
            gain = gains[:, layer_of(path)].to(subject.device, torch.float32)
            for module, span in subject.sites[path].ports:
                hook = _adding(update.rows(span), gain, path, reached, watch)
                undo.callback(module.register_forward_hook(hook).remove)
        yield subject
    missed = [path for path in adapters.sites if path not in reached]
    if ran and missed:
        raise AdapterError(f"{missed[0]} was never run by the model, so an update of it changes nothing")


def _adding(
    update: Factors | Matrices, gain: Float[Tensor, " batch"], path: str, reached: set[str], watch: Watch | None
) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        x = args[0]
        if x.ndim != 3 or len(x) != len(gain):
            raise AdapterError(
                f"{path} sees a tensor of shape {list(x.shape)}, not [{len(gain)}, positions, width]: its examples cannot "
                "be told apart, so no adapter can be given to each"
            )
        reached.add(path)
        added = update(x, gain.to(x.device))
        if watch is not None:
            watch(path, added)
        return out + added

    return hook


def _side_by_side(subject: Subject, path: str, adapters: Sequence[Adapter]) -> Factors | Matrices:
    site, place = subject.sites[path], {"device": subject.device, "dtype": subject.dtype}
    parts = [[u for u in (a.updates.get(path), a.shared.get(path)) if u is not None] for a in adapters]
    if any(not isinstance(update, LowRank) for row in parts for update in row):
        delta = torch.zeros(len(parts), site.d_out, site.d_in)
        for n, row in enumerate(parts):
            for update in row:
                delta[n] += update.dense().float().cpu()
        return Matrices(delta.to(**place))
    rank = max(sum(update.rank for update in row) for row in parts)
    A = torch.zeros(len(parts), rank, site.d_in)
    B = torch.zeros(len(parts), site.d_out, rank)
    for n, row in enumerate(parts):
        _fill(A[n], B[n], row)
    return Factors(A.to(**place), B.to(**place))


def _fill(A: Float[Tensor, "rank d_in"], B: Float[Tensor, "d_out rank"], updates: Sequence[Update]) -> None:
    first = 0
    for update in updates:
        assert isinstance(update, LowRank)
        A[first : first + update.rank] = update.A.detach().float().cpu()
        B[:, first : first + update.rank] = update.scale * update.B.detach().float().cpu()
        first += update.rank
