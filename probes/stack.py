"""Stack: the adapters of a batch side by side, one an example, checked against the model they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from margins.adapter import Adapter, layer_of
from margins.updates import Alike, LowRank, Update, Vector, frobenius_norms
from probes.devices import runs_on
from probes.profile import spent_on
from probes.sites import AdapterError, Ports, Rows, nearest
from probes.subject import Subject
from probes.vectors import Normalised, VectorSite, vector_site


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

    def rows(self, rows: Rows) -> Factors:
        """The part of the update that writes these outputs."""
        return Factors(self.A, self.B[:, rows])

    def only(self, examples: Sequence[int]) -> Factors:
        """The updates of some examples of the batch."""
        return Factors(self.A[examples], self.B[examples])


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

    def rows(self, rows: Rows) -> Matrices:
        """The part of the update that writes these outputs."""
        return Matrices(self.delta[:, rows])

    def only(self, examples: Sequence[int]) -> Matrices:
        """The updates of some examples of the batch."""
        return Matrices(self.delta[examples])


@dataclass(frozen=True)
class Vectors:
    """One vector parameter's updates for a whole batch; what it multiplies, for the weight of a norm."""

    delta: Float[Tensor, "batch d_out"]
    multiplies: Normalised | None = None

    def __call__(
        self, x: Float[Tensor, "batch pos d_in"], gain: Float[Tensor, " batch"]
    ) -> Float[Tensor, "#batch #pos d_out"]:
        """gain * delta for a bias, gain * delta * n(x) for a norm's weight."""
        added = (self.delta.float() * gain[:, None]).to(x.dtype)[:, None]
        return added if self.multiplies is None else added * self.multiplies(x)

    def rows(self, rows: Rows) -> Vectors:
        """The part of the update that writes these outputs."""
        return Vectors(self.delta[:, rows], self.multiplies)

    def only(self, examples: Sequence[int]) -> Vectors:
        """The updates of some examples of the batch."""
        return Vectors(self.delta[examples], self.multiplies)


Together = Factors | Matrices | Vectors


@dataclass(frozen=True)
class Stack:
    """The adapters of a batch, by site; example n of a batch runs with adapter n."""

    sites: Mapping[str, Together]
    size: int

    def only(self, examples: Sequence[int]) -> Stack:
        """The adapters of some examples of the batch."""
        return Stack({path: update.only(examples) for path, update in self.sites.items()}, len(examples))


def check(subject: Subject, *adapters: Adapter) -> None:
    """Raise AdapterError unless every update has a place and its shape and is finite, and one of every adapter is not zero."""
    for adapter in adapters:
        for path, update in adapter.parts():
            _fits(subject, adapter.name, path, update)
    largest = [0.0] * len(adapters)
    for path in dict.fromkeys(path for adapter in adapters for path in adapter.paths):
        own = [(n, update) for n, adapter in enumerate(adapters) for update in _of_site(adapter, path)]
        for (n, _), size in zip(own, frobenius_norms([update for _, update in own]), strict=True):
            if not size < float("inf"):
                raise AdapterError(f"adapter {adapters[n].name}: the update of {path} is not finite")
            largest[n] = max(largest[n], size)
    for adapter, size in zip(adapters, largest, strict=True):
        if size == 0.0:
            reason = "it has no updates" if not adapter.paths else "all of its updates are zero"
            raise AdapterError(f"adapter {adapter.name} changes nothing: {reason}")


def stack(subject: Subject, adapters: Sequence[Adapter]) -> Stack:
    """Put adapters side by side, document and shared part of a site joined along the rank; raises AdapterError."""
    with spent_on("adapters"):
        check(subject, *adapters)
        paths = dict.fromkeys(path for adapter in adapters for path in adapter.paths)
        return Stack({path: _side_by_side(subject, path, adapters) for path in paths}, len(adapters))


def ports_of(subject: Subject, path: str, update: Together) -> Ports:
    """The modules where a site's update acts, and which of their outputs it writes."""
    return _vector(subject, path).ports if isinstance(update, Vectors) else subject.sites[path].ports


def _fits(subject: Subject, name: str, path: str, update: Update) -> None:
    """Raise AdapterError unless an update has a place in a layer, and its shape."""
    wanted, ports = _place(subject, path, update, name)
    if update.shape != wanted:
        raise AdapterError(
            f"adapter {name}: {path} needs an update of shape {list(wanted)}, got {list(update.shape)}; "
            "was it made for another model?"
        )
    layer = layer_of(path)
    if not ports or layer is None or layer >= subject.n_layers:
        why = "the wrapped model runs it in pieces that no hook can follow" if not ports else "it is in no layer"
        raise AdapterError(f"adapter {name}: {path} cannot be changed here: {why}")


def _of_site(adapter: Adapter, path: str) -> list[Update]:
    """A site's update of the document and that of the shared part, where there are any."""
    return [update for update in (adapter.updates.get(path), adapter.shared.get(path)) if update is not None]


def _place(subject: Subject, path: str, update: Update, name: str) -> tuple[tuple[int, ...], Ports]:
    """Shape and ports of the parameter that an update is for. Raises AdapterError where the model has none."""
    if isinstance(update, Vector):
        vector = vector_site(subject.model, subject.sites, path)
        if vector is not None:
            return tuple(vector.base.shape), vector.ports
        raise AdapterError(f"adapter {name}: {path!r} is no bias of a linear map and no weight or bias of a norm")
    site = subject.sites.get(path)
    if site is None:
        near = nearest(path, subject.sites)
        raise AdapterError(f"adapter {name}: the model has no linear map {path!r}; the nearest is {near!r}")
    return (site.d_out, site.d_in), site.ports


def _vector(subject: Subject, path: str) -> VectorSite:
    found = vector_site(subject.model, subject.sites, path)
    assert found is not None, "check comes first"
    return found


def _side_by_side(subject: Subject, path: str, adapters: Sequence[Adapter]) -> Together:
    parts = [_of_site(adapter, path) for adapter in adapters]
    if any(isinstance(update, Vector) for row in parts for update in row):
        vector = _vector(subject, path)
        delta = _summed(parts, vector.base.shape).to(runs_on(vector.ports[0][0]), subject.dtype)
        return Vectors(delta, vector.multiplies)
    site = subject.sites[path]
    place = {"device": runs_on(site.ports[0][0]), "dtype": subject.dtype}
    if any(not isinstance(update, LowRank) for row in parts for update in row):
        return Matrices(_summed(parts, (site.d_out, site.d_in)).to(**place))
    alike = Alike.of([row[0] for row in parts]) if all(len(row) == 1 for row in parts) else None
    if alike is not None:
        scale = alike.scale.float()[:, None, None]
        return Factors(alike.A.float().to(**place), (scale * alike.B.float()).to(**place))
    rank = max(sum(update.rank for update in row) for row in parts)
    A = torch.zeros(len(parts), rank, site.d_in)
    B = torch.zeros(len(parts), site.d_out, rank)
    for n, row in enumerate(parts):
        _fill(A[n], B[n], row)
    return Factors(A.to(**place), B.to(**place))


def _summed(parts: Sequence[Sequence[Update]], shape: Sequence[int]) -> Tensor:
    """Each example's updates of one parameter added up, in float32."""
    delta = torch.zeros(len(parts), *shape)
    for n, row in enumerate(parts):
        for update in row:
            delta[n] += update.dense().float().cpu()
    return delta


def _fill(A: Float[Tensor, "rank d_in"], B: Float[Tensor, "d_out rank"], updates: Sequence[Update]) -> None:
    first = 0
    for update in updates:
        assert isinstance(update, LowRank)
        A[first : first + update.rank] = update.A.detach().float().cpu()
        B[:, first : first + update.rank] = update.scale * update.B.detach().float().cpu()
        first += update.rank
