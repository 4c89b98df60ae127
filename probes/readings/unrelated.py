"""What an adapter costs: how far it moves the base on questions and text that its document has nothing to do with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.adapter import AnyAdapter, layer_of
from override_gap.margins.bounds import BROKEN as BROKEN
from override_gap.margins.items.divergence import Divergence
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import batched
from override_gap.probes.attach.stack import Stack
from override_gap.probes.subject.forward import Batch, ForwardState, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import BlockOutputs, ResumePoint

#: The last tokens of a row that are read: the questions' own words, not a chat template in front of them.
POSITIONS = 8


@dataclass(frozen=True)
class Cost:
    """What an adapter costs at one gain: KL(f || g) in nats per token, and the share of rows whose arg max stays.

    Both are NaN where the cost could not be read; logits that are no numbers give an infinite KL.
    """

    kl: float
    kept: float

    @property
    def broken(self) -> bool:
        """Whether the model is broken: the KL is above BROKEN."""
        return self.kl > BROKEN

    @property
    def measured(self) -> bool:
        """Whether the cost was read; without it nothing says whether the gain is allowed."""
        return self.kl == self.kl


@dataclass(frozen=True)
class UnrelatedRows:
    """Rows of tokens and the base's readings at the last POSITIONS of each: log-probabilities, and where the arg max is.

    `block_outputs` is what every block of the base gave, from which an adapter of upper layers resumes; None where not
    asked for, or too large to keep.
    """

    divergences: tuple[Divergence, ...]
    log_probs: Float[Tensor, "row read vocab"]
    block_outputs: BlockOutputs | None = None

    def __len__(self) -> int:
        return len(self.divergences)

    @classmethod
    def read(cls, subject: Subject, divergences: Sequence[Divergence], *, keep_blocks: bool = False) -> UnrelatedRows:
        """The base's own readings of some rows; with `keep_blocks` adapters of upper layers share the base's lower ones."""
        rows = tuple(divergences)
        vocab = subject.unembedding.shape[0]
        if not rows:
            return cls((), torch.zeros(0, POSITIONS, vocab))
        batch = _batch(subject, rows)
        state = forward(subject, batch, _columns(batch), keep_blocks=keep_blocks)
        return cls(rows, _log_probs(subject, state), state.block_outputs)

    def resume_point(self, numbers: Sequence[int], width: int, layer: int) -> ResumePoint | None:
        """The base's blocks below `layer` on these rows, cut to `width` positions; None where all layers are to be run."""
        if self.block_outputs is None or layer == 0:
            return None
        return ResumePoint(self.block_outputs.only(numbers, width), layer)


def row_of(tokens: Sequence[int]) -> Divergence:
    """A row of text, read at its end."""
    return Divergence(tuple(tokens), len(tokens), len(tokens) - 1, tokens[0], None, len(tokens), 0)


def read_costs(
    subject: Subject,
    unrelated: UnrelatedRows,
    chosen: Sequence[Sequence[int]],
    adapters: Sequence[AnyAdapter],
    gains: Sequence[float],
) -> list[Cost]:
    """The cost of each adapter at its own uniform gain, over the rows chosen for it, all in one pass.

    Positions before a row's first token are not read: a short row has fewer. Raises AdapterError for an adapter that does
    not fit.
    """
    numbers = [n for rows in chosen for n in rows]
    owner = [k for k, rows in enumerate(chosen) for _ in rows]
    if not numbers:
        return [Cost(float("nan"), float("nan")) for _ in adapters]
    rows = [unrelated.divergences[n] for n in numbers]
    together = batched(subject, [adapters[k] for k in owner], [0] * len(rows))
    assert isinstance(together, Stack), "gains are set on weight updates alone"
    at_rows = torch.tensor([gains[k] for k in owner])[:, None].expand(-1, subject.n_layers)
    batch = _batch(subject, rows)
    # below the first adapted layer the pass is the base's own; it runs at least its last layer
    first = min((layer_of(path) or 0 for path in together.sites), default=0)
    point = unrelated.resume_point(numbers, batch.ids.shape[1], min(first, subject.n_layers - 1))
    with attached(subject, together, at_rows):
        adapted = _log_probs(subject, forward(subject, batch, _columns(batch), resume=point))
    base = unrelated.log_probs[torch.tensor(numbers, device=unrelated.log_probs.device)]
    # where f gives no probability the term is zero, though both logarithms may be minus infinity
    kl = (base.exp() * (base - adapted)).nan_to_num(nan=float("inf")).where(base > -torch.inf, 0.0).sum(-1).clamp_min(0)
    kept = (base[:, -1].argmax(-1) == adapted[:, -1].argmax(-1)).float()
    read = _read_positions(rows) >= 0
    per_row = (kl.cpu() * read).sum(1) / read.sum(1)
    owners = torch.tensor(owner)
    return [
        Cost(float(per_row[owners == k].mean()), float(kept.cpu()[owners == k].mean())) for k in range(len(adapters))
    ]


def _batch(subject: Subject, rows: Sequence[Divergence]) -> Batch:
    return Batch.of(rows, subject.device)


def _read_positions(rows: Sequence[Divergence]) -> Int[Tensor, "row read"]:
    """The last POSITIONS up to where each row is read, in order; negative where the row has no such position.

    The first token is not read: what follows it alone is hardly text, and many models give it a role of its own.
    """
    at = torch.tensor([row.at for row in rows])[:, None]
    positions = at - torch.arange(POSITIONS - 1, -1, -1)
    return torch.where((positions >= 1) | (positions == at), positions, -1)


def _columns(batch: Batch) -> Int[Tensor, "row read"]:
    """The columns of the last POSITIONS of each row; 0 where the row has no such position."""
    steps = torch.arange(POSITIONS - 1, -1, -1, device=batch.at.device)
    return (batch.at[:, None] - steps).clamp_min(0)


def _log_probs(subject: Subject, state: ForwardState) -> Float[Tensor, "row read vocab"]:
    return subject.logits(state.final.flatten(0, 1)).float().log_softmax(-1).unflatten(0, state.final.shape[:2])
