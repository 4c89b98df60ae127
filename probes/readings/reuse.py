"""Passes: the adapted readings of one batch, each row under each set of gains run once and from the layer it first differs at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from override_gap.margins.adapter import layer_of
from override_gap.margins.margin import Margins
from override_gap.probes.attach.stack import Stack
from override_gap.probes.readings.adapted import Adapted, read_adapted, read_base, writes_stream
from override_gap.probes.readings.batching import START
from override_gap.probes.readings.prior import Prior
from override_gap.probes.subject.forward import BlockOutputs, ResumePoint
from override_gap.probes.subject.model import Subject

Known = dict[tuple[int, bytes], tuple[Adapted, int]]


@dataclass(frozen=True, eq=False)
class ReusedPasses:
    """A batch under its adapters, at any gains.

    Gain 0 is the base's own readings; a row's gains that were run before are not run again; a pass takes up the base's
    or the delivered pass at the first layer where it differs, and ends where the last row is read. None of this changes
    a number beyond rounding. `plain` switches all of it off: every call is one pass over the whole batch.
    """

    subject: Subject
    prior: Prior
    adapters: Stack
    deep: bool
    trunk: BlockOutputs | None = None
    plain: bool = False
    known: Known = field(default_factory=dict)
    delivered_trunk: list[Any] = field(default_factory=list)

    @cached_property
    def touched(self) -> Float[Tensor, " layer"]:
        """1 at the layers that some adapter of the batch acts on, 0 elsewhere."""
        found = torch.zeros(self.subject.n_layers)
        found[sorted({layer_of(path) or 0 for path in self.adapters.sites})] = 1.0
        return found

    def under(self, adapters: Stack) -> ReusedPasses:
        """The same batch and base under other adapters."""
        return ReusedPasses(self.subject, self.prior, adapters, self.deep, self.trunk, self.plain)

    def delivered(self) -> Adapted:
        """Every row at gain 1, with its stream if the readings go over layers; its logits are kept."""
        ones = torch.ones(len(self.prior.pre), self.subject.n_layers)
        if self.plain:
            return read_adapted(self.subject, self.prior, self.adapters, ones, layers=self.deep)
        rows = list(range(len(ones)))
        keep: list[Any] = []
        found = self._run(rows, ones, self.deep, keep)
        self.delivered_trunk.extend(keep)
        self._remember(rows, ones * self.touched, found)
        return found

    def __call__(self, gains: Float[Tensor, "batch layer"], *, layers: bool = False) -> Adapted:
        """The readings at these gains."""
        if self.plain:
            return read_adapted(self.subject, self.prior, self.adapters, gains, layers=layers)
        heard = gains * self.touched
        keys = [(n, row.tobytes()) for n, row in enumerate(heard.numpy())]
        loud = heard.any(1).tolist()
        base = self._base
        pieces: list[tuple[Adapted, int] | None] = []
        for n, key in enumerate(keys):
            at = (base, n) if not loud[n] else self.known.get(key)
            short = layers and at is not None and at[0] is not base and at[0].residual is None
            pieces.append(None if short else at)
        open_ = [n for n, piece in enumerate(pieces) if piece is None]
        for rows, start in self._grouped(open_, heard, layers):
            found = self._run(rows, heard[rows], layers, None, start)
            for k, n in enumerate(rows):
                pieces[n] = (found, k)
            self._remember(rows, heard[rows], replace(found, logits=found.logits[:, :0]))
        return concat_rows([piece for piece in pieces if piece is not None])

    @cached_property
    def _base(self) -> Adapted:
        """The base's readings; an adapter at gain 0 writes nothing."""
        base = read_base(self.prior, self.subject)
        if not self.deep or not all(writes_stream(self.subject, path) for path in self.adapters.sites):
            return base
        shape = (len(self.prior.pre), self.subject.n_layers, self.subject.d_model)
        return replace(base, written=torch.zeros(shape, device=self.subject.device))

    def _remember(self, rows: Sequence[int], heard: Tensor, found: Adapted) -> None:
        for k, n in enumerate(rows):
            self.known[n, heard[k].numpy().tobytes()] = (found, k)

    def _grouped(
        self, rows: Sequence[int], heard: Float[Tensor, "batch layer"], layers: bool
    ) -> list[tuple[list[int], tuple[int, bool] | None]]:
        """Rows with where they take up another pass: (layer, whether the delivered one), in at most two groups.

        Two where what the later starting rows save is more than what one more pass of all layers costs to start.
        """
        if not rows:
            return []
        depth = self.subject.n_layers
        starts = dict(zip(rows, self._starts(heard[rows], layers), strict=True))
        order = sorted(rows, key=lambda n: starts[n][0])
        firsts = [starts[n][0] for n in order]
        whole = len(order) * (depth - firsts[0])
        splits = [(k * (depth - firsts[0]) + (len(order) - k) * (depth - firsts[k]), k) for k in range(1, len(order))]
        least, at = min(splits, default=(whole, 0))
        more = depth * START / self.prior.batch.ids.shape[1]
        groups = [order] if whole - least < more else [order[:at], order[at:]]
        found = []
        for group in groups:
            layer, from_delivered = min(starts[n] for n in group)
            mixed = len({starts[n][1] for n in group if starts[n][0]}) > 1
            if mixed:  # one pass takes up one other: the base if that serves all of them, else none
                layer, from_delivered = min(_firsts(heard[group] != 0)), False
            found.append((sorted(group), (layer, from_delivered) if layer else None))
        return found

    def _starts(self, heard: Float[Tensor, "batch layer"], layers: bool) -> list[tuple[int, bool]]:
        """The first layer at which each row differs from a pass that was kept, and whether that is the delivered one."""
        options = [[(0, False)] * len(heard)]
        if self.trunk is not None and (not layers or self.prior.residual is not None):
            options.append([(layer, False) for layer in _firsts(heard != 0)])
        if self.delivered_trunk:
            options.append([(layer, True) for layer in _firsts(heard != self.touched)])
        # a pass runs at least its last layer
        last = self.subject.n_layers - 1
        return [(min(layer, last), kept) for layer, kept in map(max, zip(*options, strict=True))]

    def _run(
        self,
        rows: list[int],
        gains: Float[Tensor, "batch layer"],
        layers: bool,
        keep: list[Any] | None,
        start: tuple[int, bool] | None = None,
    ) -> Adapted:
        part = self.prior.only(rows)
        if start is None and keep is not None:
            start = (min(int(self.touched.argmax()), self.subject.n_layers - 1), False)
        taken = None if start is None else self._taken(rows, part, *start)
        return read_adapted(self.subject, part, self.adapters.only(rows), gains, layers=layers, start=taken, keep=keep)

    def _taken(self, rows: list[int], part: Prior, layer: int, from_delivered: bool) -> ResumePoint | None:
        """The kept pass's part of these rows."""
        width = part.batch.ids.shape[1]
        if from_delivered:
            ones = self.touched
            of, at = zip(*(self.known[n, ones.numpy().tobytes()] for n in rows), strict=True)
            whole = of[0]
            residual = None if whole.residual is None else whole.residual[list(at)]
            written = None if whole.written is None else whole.written[list(at)]
            return ResumePoint(BlockOutputs(tuple(self.delivered_trunk)).only(rows, width), layer, residual, written)
        if self.trunk is None or layer == 0:
            return None
        return ResumePoint(self.trunk.only(rows, width), layer, part.residual)


def concat_rows(pieces: Sequence[tuple[Adapted, int]]) -> Adapted:
    """Rows of several readings as one."""
    first = pieces[0][0]
    if all(piece is first and at == n for n, (piece, at) in enumerate(pieces)) and len(first.top) == len(pieces):
        return first
    made: dict[str, Any] = {}
    for name in ("top", "top_prob", "doc_logprob", "hidden", "residual", "written"):
        parts = [getattr(piece, name) for piece, _ in pieces]
        absent = any(part is None for part in parts) and name in ("residual", "written")
        made[name] = None if absent else torch.stack([p[at] for p, (_, at) in zip(parts, pieces, strict=True)])
    margins = Margins(
        **{f.name: torch.stack([getattr(piece.margins, f.name)[at] for piece, at in pieces]) for f in fields(Margins)}
    )
    return Adapted(margins=margins, logits=first.logits[:0], **made)


def _firsts(mask: Bool[Tensor, "batch layer"]) -> list[int]:
    """The first place where each row of a mask holds; its length where it never does."""
    return torch.where(mask.any(1), mask.int().argmax(1), mask.shape[1]).tolist()
