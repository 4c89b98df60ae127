"""Reused passes: a batch's readings at any gains; rows run once per set of gains, from the layer where they first differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from override_gap.margins.adapter import layer_of
from override_gap.margins.margin import Margins
from override_gap.probes.attach.stack import Stack
from override_gap.probes.readings.adapted import Adapted, read_adapted, read_base, stream_paths
from override_gap.probes.readings.batching import PASS_COST
from override_gap.probes.readings.prior import Prior
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import ResumePoint


@dataclass(frozen=True)
class RowReading:
    """One row of one pass's readings."""

    readings: Adapted
    row: int


@dataclass(frozen=True)
class Pass:
    """A pass still to be run: the rows in it, its first layer, and whether the delivered pass or the base gives those below."""

    rows: list[int]
    layer: int
    from_delivered: bool


class ReusedPasses:
    """One batch under one set of adapters: call it with gains, and it gives the readings at them.

    It remembers, from pass to pass and for as long as it lives (a batch under one condition's adapters):

    - `seen`: the readings of every row at all gains that were run, by row number and the bytes of its gains; no logits;
    - `base`: the base's own readings, which are those of any row at gain 0; made when first needed;
    - `delivered`: the readings at gain 1 with what every block gave; the base's block outputs are the prior's.

    So a row at the same gains is not run again; a pass resumes from the base's or the delivered one at the first layer
    where it differs, and ends where the last row is read. None of this changes a number beyond rounding.
    """

    def __init__(self, subject: Subject, prior: Prior, adapters: Stack, *, layers: bool) -> None:
        """`layers`: the delivered pass keeps its stream, and the base's readings what updates at gain 0 write: nothing."""
        self.subject, self.prior, self.adapters, self.layers = subject, prior, adapters, layers
        #: 1 at the layers that some adapter of the batch acts on, 0 elsewhere.
        self.touched = torch.zeros(subject.n_layers)
        self.touched[sorted({layer_of(path) or 0 for path in adapters.sites})] = 1.0
        self.seen: dict[tuple[int, bytes], RowReading] = {}
        self.base: Adapted | None = None
        self.delivered: Adapted | None = None

    def under(self, adapters: Stack) -> ReusedPasses:
        """The same batch and base under other adapters, nothing remembered yet."""
        return ReusedPasses(self.subject, self.prior, adapters, layers=self.layers)

    def run_delivered(self) -> Adapted:
        """The readings of every row at gain 1, in one pass, logits included."""
        rows, ones = list(range(len(self.prior.pre))), torch.ones(len(self.prior.pre), self.subject.n_layers)
        first = min(int(self.touched.argmax()), self.subject.n_layers - 1)
        self.delivered = self._run(Pass(rows, first, False), ones, self.layers, keep_blocks=True)
        self._remember(rows, ones * self.touched, self.delivered)
        return self.delivered

    def __call__(self, gains: Float[Tensor, "batch layer"], *, layers: bool = False) -> Adapted:
        """The readings at these gains, with the stream if `layers`."""
        acting = gains * self.touched
        on = acting.any(1).tolist()
        base = self._base()
        by_row: list[RowReading | None] = []
        for n, row in enumerate(acting.numpy()):
            reading = self.seen.get((n, row.tobytes())) if on[n] else RowReading(base, n)
            streamless = reading is not None and reading.readings is not base and reading.readings.residual is None
            by_row.append(None if layers and streamless else reading)
        for planned in self._planned([n for n, reading in enumerate(by_row) if reading is None], acting, layers):
            rows = planned.rows
            readings = self._run(planned, acting[rows], layers)
            for k, n in enumerate(rows):
                by_row[n] = RowReading(readings, k)
            self._remember(rows, acting[rows], replace(readings, logits=None))
        return concat_rows([reading for reading in by_row if reading is not None])

    def _base(self) -> Adapted:
        """The base's readings; an adapter at gain 0 writes nothing."""
        if self.base is None:
            self.base = read_base(self.prior, self.subject)
            if self.layers and all(p.scale is not None for p in stream_paths(self.subject, self.adapters).values()):
                shape = (len(self.prior.pre), self.subject.n_layers, self.subject.d_model)
                self.base = replace(self.base, written=torch.zeros(shape, device=self.subject.device))
        return self.base

    def _remember(self, rows: Sequence[int], gains: Float[Tensor, "batch layer"], readings: Adapted) -> None:
        for k, n in enumerate(rows):
            self.seen[n, gains[k].numpy().tobytes()] = RowReading(readings, k)

    def _planned(self, rows: Sequence[int], gains: Float[Tensor, "batch layer"], layers: bool) -> list[Pass]:
        """The passes to run for these rows: two where the layers that this saves are more than what a pass costs to start."""
        if not rows:
            return []
        n_layers = self.subject.n_layers
        starts = dict(zip(rows, self._starts(gains[rows], layers), strict=True))
        order = sorted(rows, key=lambda n: starts[n][0])
        firsts = [starts[n][0] for n in order]
        whole = len(order) * (n_layers - firsts[0])
        splits = [
            (k * (n_layers - firsts[0]) + (len(order) - k) * (n_layers - firsts[k]), k) for k in range(1, len(order))
        ]
        least, at = min(splits, default=(whole, 0))
        start_cost = n_layers * PASS_COST / self.prior.batch.ids.shape[1]
        groups = [order] if whole - least < start_cost else [order[:at], order[at:]]
        passes = []
        for group in groups:
            layer, from_delivered = min(starts[n] for n in group)
            mixed = len({starts[n][1] for n in group if starts[n][0]}) > 1
            if mixed:  # one pass resumes from one other: the base if that serves all of them, else none
                layer, from_delivered = min(_first_true(gains[group] != 0)), False
            passes.append(Pass(sorted(group), layer, from_delivered))
        return passes

    def _starts(self, gains: Float[Tensor, "batch layer"], layers: bool) -> list[tuple[int, bool]]:
        """The first layer at which each row differs from a pass that was kept, and whether that is the delivered one."""
        options = [[(0, False)] * len(gains)]
        if self.prior.block_outputs is not None and (not layers or self.prior.residual is not None):
            options.append([(layer, False) for layer in _first_true(gains != 0)])
        delivered = self.delivered
        if (
            delivered is not None
            and delivered.block_outputs is not None
            and (not layers or delivered.residual is not None)
        ):
            options.append([(layer, True) for layer in _first_true(gains != self.touched)])
        # a pass runs at least its last layer
        last = self.subject.n_layers - 1
        return [(min(layer, last), from_delivered) for layer, from_delivered in map(max, zip(*options, strict=True))]

    def _run(
        self, planned: Pass, gains: Float[Tensor, "batch layer"], layers: bool, *, keep_blocks: bool = False
    ) -> Adapted:
        prior, adapters = self.prior.only(planned.rows), self.adapters.only(planned.rows)
        point = self._resume_point(planned, prior)
        return read_adapted(self.subject, prior, adapters, gains, layers=layers, resume=point, keep_blocks=keep_blocks)

    def _resume_point(self, planned: Pass, prior: Prior) -> ResumePoint | None:
        """The kept pass's rows and columns that this one resumes from; None where all layers are run."""
        source = self.delivered if planned.from_delivered else self.prior
        if source is None or source.block_outputs is None or planned.layer == 0:
            return None
        blocks = source.block_outputs.only(planned.rows, prior.batch.ids.shape[1])
        if not planned.from_delivered:
            return ResumePoint(blocks, planned.layer, prior.residual)
        assert self.delivered is not None
        tensors = (self.delivered.residual, self.delivered.written)
        residual, written = (None if tensor is None else tensor[planned.rows] for tensor in tensors)
        return ResumePoint(blocks, planned.layer, residual, written)


def concat_rows(by_row: Sequence[RowReading]) -> Adapted:
    """Rows of several passes as one batch's readings."""
    first = by_row[0].readings
    if all(r.readings is first and r.row == n for n, r in enumerate(by_row)) and len(first.top) == len(by_row):
        return first
    columns: dict[str, Any] = {}
    for name in ("top", "top_prob", "doc_logprob", "kl", "hidden", "residual", "written"):
        tensors = [getattr(r.readings, name) for r in by_row]
        absent = name in ("residual", "written") and any(tensor is None for tensor in tensors)
        columns[name] = None if absent else torch.stack([t[r.row] for t, r in zip(tensors, by_row, strict=True)])
    margins = Margins(
        **{f.name: torch.stack([getattr(r.readings.margins, f.name)[r.row] for r in by_row]) for f in fields(Margins)}
    )
    return Adapted(margins=margins, logits=None, **columns)


def _first_true(mask: Bool[Tensor, "batch layer"]) -> list[int]:
    """The first column where each row of a mask is true; the number of columns where none is."""
    return torch.where(mask.any(1), mask.int().argmax(1), mask.shape[1]).tolist()
