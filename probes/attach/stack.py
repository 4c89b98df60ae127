"""Stack: the adapters of a batch, one per example, checked against the model they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.updates import LowRank, LowRankBatch, Rescaled, Update, Vector
from override_gap.probes.attach.parameters import ParameterUpdates
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.devices import runs_on
from override_gap.probes.subject.live_model import LiveModel
from override_gap.probes.subject.parameters import parameter_site
from override_gap.probes.subject.quantised import holds_its_weight
from override_gap.probes.subject.sites import NormalisedInput, Site, VectorSite, nearest_path, vector_site
from override_gap.probes.timing import timed


@dataclass(frozen=True)
class Factors:
    """One site's updates for a whole batch: B A, each example's scale folded into B, ranks padded with zeros."""

    A: Float[Tensor, "batch rank d_in"]
    B: Float[Tensor, "batch d_out rank"]

    def __call__(
        self, x: Float[Tensor, "batch pos d_in"], gain: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch pos d_out"]:
        """gain * B A x. The gain multiplies in float32: rounding it to bf16 would bias all positions in the same direction."""
        return torch.bmm(self._inner(x, gain), self.B.to(x.dtype).transpose(1, 2))

    def add_to(
        self, out: Float[Tensor, "batch pos d_out"], x: Float[Tensor, "batch pos d_in"], gain: Float[Tensor, " batch"]
    ) -> None:
        """Add gain * B A x to `out` in its place: no tensor is made, which took longer than the products."""
        out.baddbmm_(self._inner(x, gain), self.B.to(x.dtype).transpose(1, 2))

    def _inner(
        self, x: Float[Tensor, "batch pos d_in"], gain: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch pos rank"]:
        inner = torch.bmm(x, self.A.to(x.dtype).transpose(1, 2))
        return (inner.float() * gain[:, None, None]).to(x.dtype)

    def only(self, examples: Int[Tensor, " chosen"]) -> Factors:
        """The updates of these examples of the batch."""
        return Factors(self.A[examples.to(self.A.device)], self.B[examples.to(self.B.device)])


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

    def only(self, examples: Int[Tensor, " chosen"]) -> Matrices:
        """The updates of these examples of the batch."""
        return Matrices(self.delta[examples.to(self.delta.device)])


@dataclass(frozen=True)
class Rescales:
    """One site's DoRA updates for a whole batch on a quantised map: diag(rows) times its output, and B A."""

    rows: Float[Tensor, "batch d_out"]
    factors: Factors

    def __call__(
        self, x: Float[Tensor, "batch pos d_in"], gain: Float[Tensor, " batch"], out: Float[Tensor, "batch pos d_out"]
    ) -> Float[Tensor, "batch pos d_out"]:
        """gain * (rows * out + B A x); `out` is the base's own output without its bias."""
        scaled = out.float() * self.rows.float()[:, None] * gain[:, None, None]
        return scaled.to(out.dtype) + self.factors(x, gain)

    def only(self, examples: Int[Tensor, " chosen"]) -> Rescales:
        """The updates of these examples of the batch."""
        return Rescales(self.rows[examples.to(self.rows.device)], self.factors.only(examples))


@dataclass(frozen=True)
class Vectors:
    """One vector parameter's updates for a whole batch; `multiplies` is n(x) for a norm's weight, None for a bias."""

    delta: Float[Tensor, "batch d_out"]
    multiplies: NormalisedInput | None = None

    def __call__(
        self, x: Float[Tensor, "batch pos d_in"], gain: Float[Tensor, " batch"]
    ) -> Float[Tensor, "#batch #pos d_out"]:
        """gain * delta for a bias, gain * delta * n(x) for a norm's weight."""
        added = (self.delta.float() * gain[:, None]).to(x.dtype)[:, None]
        return added if self.multiplies is None else added * self.multiplies(x)

    def only(self, examples: Int[Tensor, " chosen"]) -> Vectors:
        """The updates of these examples of the batch."""
        return Vectors(self.delta[examples.to(self.delta.device)], self.multiplies)


@dataclass(frozen=True)
class Shared:
    """One site's updates where several examples have the same one: each is held once. `which`: the number of each example's."""

    updates: Factors | Matrices
    which: tuple[int, ...]

    def __call__(
        self, x: Float[Tensor, "batch pos d_in"], gain: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch pos d_out"]:
        """gain * update x, one product per update over all examples that have it."""
        out: Tensor | None = None
        for number in sorted(set(self.which)):
            rows = torch.tensor([n for n, of in enumerate(self.which) if of == number], device=x.device)
            flat = x[rows].flatten(0, 1)[None]
            part = self.updates.only(torch.tensor([number]))(flat, torch.ones(1, device=x.device))
            out = part.new_empty(*x.shape[:2], part.shape[-1]) if out is None else out
            out[rows] = part.reshape(len(rows), x.shape[1], -1)
        assert out is not None, "a batch has an example"
        return (out.float() * gain[:, None, None]).to(x.dtype)

    def only(self, examples: Int[Tensor, " chosen"]) -> Shared:
        """The updates of these examples of the batch."""
        return Shared(self.updates, tuple(self.which[n] for n in examples.tolist()))


BatchedUpdate = Factors | Matrices | Rescales | Vectors | Shared | ParameterUpdates


@dataclass(frozen=True)
class Stack:
    """The adapters of a batch, by site; example n of a batch runs with adapter n."""

    sites: Mapping[str, BatchedUpdate]
    size: int

    def only(self, examples: Sequence[int]) -> Stack:
        """The adapters of these examples of the batch."""
        if list(examples) == list(range(self.size)):
            return self
        chosen = torch.tensor(examples)
        return Stack({path: update.only(chosen) for path, update in self.sites.items()}, len(examples))


@dataclass(frozen=True)
class SiteUpdates:
    """One site's updates per adapter (document and shared part); `low_rank`: all in one tensor, if they have one shape."""

    path: str
    by_adapter: tuple[tuple[Update, ...], ...]
    low_rank: LowRankBatch | None

    @classmethod
    def of(cls, path: str, adapters: Sequence[Adapter]) -> SiteUpdates:
        """The updates that adapters have for a site."""
        pairs = ((adapter.updates.get(path), adapter.shared.get(path)) for adapter in adapters)
        by_adapter = tuple(tuple(update for update in pair if update is not None) for pair in pairs)
        return cls(path, by_adapter, LowRankBatch.of([update for updates in by_adapter for update in updates]))

    @property
    def numbered(self) -> list[tuple[int, Update]]:
        """Each update with the number of its adapter."""
        return [(n, update) for n, updates in enumerate(self.by_adapter) for update in updates]


def site_updates(adapters: Sequence[Adapter]) -> list[SiteUpdates]:
    """The adapters' updates by site."""
    return [SiteUpdates.of(path, adapters) for path in dict.fromkeys(path for a in adapters for path in a.paths)]


def check(subject: LiveModel, adapters: Sequence[Adapter], by_site: Sequence[SiteUpdates] | None = None) -> None:
    """Raise AdapterError unless every update fits the model and is finite, and each adapter has one that is not zero."""
    by_site = site_updates(adapters) if by_site is None else by_site
    for site in by_site:
        # updates in one tensor have one shape
        for n, update in site.numbered[: 1 if site.low_rank is not None else None]:
            _check_shape(subject, adapters[n].name, site.path, update)
    largest = [0.0] * len(adapters)
    for site in by_site:
        # that updates in one tensor are finite needs no product, which took longer than stacking them
        joint = site.low_rank
        sizes = joint.largest_norms().tolist() if joint is not None else [u.frobenius() for _, u in site.numbered]
        for (n, _), size in zip(site.numbered, sizes, strict=True):
            if not size < float("inf"):
                raise AdapterError(f"adapter {adapters[n].name}: the update of {site.path} is not finite")
        if joint is not None and any(largest[n] == 0.0 for n, _ in site.numbered):
            sizes = joint.frobenius().tolist()  # factors that are not zero may have a product that is
        for (n, _), size in zip(site.numbered, sizes, strict=True):
            largest[n] = max(largest[n], size)
    for adapter, size in zip(adapters, largest, strict=True):
        if size == 0.0:
            reason = "it has no updates" if not adapter.paths else "all of its updates are zero"
            raise AdapterError(f"adapter {adapter.name} changes nothing: {reason}")


def stack(subject: LiveModel, adapters: Sequence[Adapter]) -> Stack:
    """The adapters as one batch, document and shared part of a site joined along the rank. Raises AdapterError as `check`."""
    return _batched(subject, adapters, checked=False)


def _batched(subject: LiveModel, adapters: Sequence[Adapter], *, checked: bool) -> Stack:
    distinct = list({id(adapter): adapter for adapter in adapters}.values())
    if 2 * len(distinct) <= len(adapters) and any(_is_large(u) for a in distinct for _, u in a.parts()):
        return _shared(
            _batched(subject, distinct, checked=checked),
            [next(n for n, d in enumerate(distinct) if d is a) for a in adapters],
        )
    with timed("adapters"):
        by_site = site_updates(adapters)
        if not checked:
            check(subject, adapters, by_site)
        return Stack({site.path: _batched_update(subject, site) for site in by_site}, len(adapters))


def part_stacks(subject: LiveModel, adapters: Sequence[Adapter]) -> dict[str, Stack]:
    """The `document` part and the `shared` part of adapters as a batch each, for adapters that `stack` has accepted.

    Both together are that batch. A part that no adapter has is left out; where some lack it, theirs is zero.
    """
    parts: dict[str, Stack] = {}
    for part in ("document", "shared"):
        own = {id(a): Adapter(a.name, a.updates if part == "document" else a.shared) for a in adapters}
        if any(adapter.updates for adapter in own.values()):
            parts[part] = _batched(subject, [own[id(a)] for a in adapters], checked=True)
    return parts


def _is_large(update: Update) -> bool:
    """Whether an update holds about as many numbers as the weight, so that a copy per example would need much memory."""
    return not isinstance(update, Vector) and (not isinstance(update, LowRank) or 2 * update.rank > min(update.shape))


def _shared(few: Stack, which: Sequence[int]) -> Stack:
    """A stack of the distinct adapters as one of all examples; `which`: the number of each example's."""
    numbers = torch.tensor(list(which))
    sites: dict[str, BatchedUpdate] = {
        path: Shared(update, tuple(which)) if isinstance(update, Factors | Matrices) else update.only(numbers)
        for path, update in few.sites.items()
    }
    return Stack(sites, len(which))


def acts_on(subject: LiveModel, path: str, update: BatchedUpdate) -> nn.Module:
    """The module whose output a site's update is added to."""
    if isinstance(update, ParameterUpdates):
        return update.site.module
    owner = module_path(path, update)
    return subject.sites[path].module if owner == path else subject.model.get_submodule(owner)


def module_path(path: str, update: BatchedUpdate) -> str:
    """The path of the module whose output an update is added to: the linear map, or the owner of a bias or norm's weight.

    An update within a parameter is added to no output: its own path then, which is no module's.
    """
    return path.rpartition(".")[0] if isinstance(update, Vectors) else path


def _check_shape(subject: LiveModel, name: str, path: str, update: Update) -> None:
    """Raise AdapterError unless an update has the shape of its parameter and the parameter is in a layer."""
    shape = _parameter_shape(subject, path, update, name)
    if update.shape != shape:
        raise AdapterError(
            f"adapter {name}: {path} needs an update of shape {list(shape)}, got {list(update.shape)}; "
            "was it made for another model?"
        )
    layer = layer_of(path)
    if layer is None or layer >= subject.n_layers:
        raise AdapterError(f"adapter {name}: {path} cannot be updated: it is in no layer")


def _parameter_shape(subject: LiveModel, path: str, update: Update, name: str) -> tuple[int, ...]:
    """Shape of the parameter that an update is for. Raises AdapterError where the model has no such parameter."""
    if isinstance(update, Vector):
        vector = vector_site(subject.model, subject.sites, path)
        if vector is not None:
            return tuple(vector.base.shape)
        raise AdapterError(
            f"adapter {name}: {path!r} is neither the bias of a linear map nor the weight or bias of a norm"
        )
    site = subject.sites.get(path)
    parameter = parameter_site(subject.model, path) if site is None else None
    if parameter is not None:
        return parameter.shape
    if site is None:
        near = nearest_path(path, subject.sites)
        raise AdapterError(f"adapter {name}: the model has no linear map {path!r}; the nearest is {near!r}")
    return site.d_out, site.d_in


def _vector(subject: LiveModel, path: str) -> VectorSite:
    site = vector_site(subject.model, subject.sites, path)
    assert site is not None, "check comes first"
    return site


def _batched_update(subject: LiveModel, updates: SiteUpdates) -> BatchedUpdate:
    by_adapter = updates.by_adapter
    if any(isinstance(update, Vector) for row in by_adapter for update in row):
        vector = _vector(subject, updates.path)
        delta = _summed(by_adapter, vector.base.shape).to(runs_on(vector.module), subject.dtype)
        return Vectors(delta, vector.multiplies)
    if updates.path not in subject.sites:
        parameter = parameter_site(subject.model, updates.path)
        assert parameter is not None, "check comes first"
        return ParameterUpdates(parameter, by_adapter)
    site = subject.sites[updates.path]
    options = {"device": runs_on(site.module), "dtype": subject.dtype}
    everything = [update for row in by_adapter for update in row]
    rescaled = any(isinstance(update, Rescaled) for update in everything) and not holds_its_weight(site.module)
    if rescaled and all(isinstance(update, Rescaled | LowRank) for update in everything):
        return _rescales(by_adapter, site, options)
    if any(not isinstance(update, LowRank) for update in everything):
        return Matrices(_summed(by_adapter, (site.d_out, site.d_in)).to(**options))
    low_rank = updates.low_rank
    if low_rank is not None and all(len(row) == 1 for row in by_adapter):
        scale = low_rank.scale.float()[:, None, None]
        return Factors(low_rank.A.float().to(**options), (scale * low_rank.B.float()).to(**options))
    return _factors(by_adapter, site, options)


def _rescales(by_adapter: Sequence[Sequence[Update]], site: Site, options: Mapping[str, Any]) -> Rescales:
    """DoRA updates of a map that is not its parameter times its input."""
    rows = torch.zeros(len(by_adapter), site.d_out)
    for n, row in enumerate(by_adapter):
        for update in row:
            if isinstance(update, Rescaled):
                rows[n] += update.rows.detach().float().cpu()
    low = [[u.low_rank if isinstance(u, Rescaled) else u for u in row] for row in by_adapter]
    return Rescales(rows.to(**options), _factors(low, site, options))


def _factors(by_adapter: Sequence[Sequence[Update]], site: Site, options: Mapping[str, Any]) -> Factors:
    """Low-rank updates of different ranks, or several per adapter, as one pair of factors each."""
    rank = max(sum(update.rank for update in row) for row in by_adapter)
    A = torch.zeros(len(by_adapter), rank, site.d_in)
    B = torch.zeros(len(by_adapter), site.d_out, rank)
    for n, row in enumerate(by_adapter):
        _fill(A[n], B[n], row)
    return Factors(A.to(**options), B.to(**options))


def _summed(by_adapter: Sequence[Sequence[Update]], shape: Sequence[int]) -> Float[Tensor, "batch ..."]:
    """Each adapter's updates of one parameter added up, in float32."""
    delta = torch.zeros(len(by_adapter), *shape)
    for n, row in enumerate(by_adapter):
        for update in row:
            delta[n] += update.dense().float().cpu()
    return delta


def _fill(A: Float[Tensor, "rank d_in"], B: Float[Tensor, "d_out rank"], updates: Sequence[Update]) -> None:
    """Write one adapter's low-rank updates into rows of A and columns of B, one after the other, each scale folded into B."""
    first = 0
    for update in updates:
        assert isinstance(update, LowRank)
        A[first : first + update.rank] = update.A.detach().float().cpu()
        B[:, first : first + update.rank] = update.scale * update.B.detach().float().cpu()
        first += update.rank
