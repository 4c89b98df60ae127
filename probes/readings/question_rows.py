"""Rows of questions whose prior margin is read again and again under small updates of the base, with or without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.items.divergence import Divergence
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import Stack
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import BlockOutputs, ResumePoint


@dataclass(frozen=True, eq=False)
class QuestionRows:
    """Conflicts read at the first token where their answers differ; `base` is the base's prior margin of each, nats.

    Updates act from layer `first` on: the layers below give what `blocks` holds of the base's pass, and do not run.
    """

    subject: Subject
    batch: Batch
    pre: Int[Tensor, " batch"]
    doc: Int[Tensor, " batch"]
    base: Float[Tensor, " batch"]
    first: int = 0
    blocks: BlockOutputs | None = None

    def __len__(self) -> int:
        return len(self.pre)

    @classmethod
    def of(cls, subject: Subject, places: Sequence[Divergence], first: int = 0) -> QuestionRows:
        """Run the base on conflicts once; what is read later acts from layer `first` on."""
        pairs = [(place.pre, place.doc) for place in places]
        assert all(pre is not None for pre, _ in pairs), "a conflict has an old answer"
        both = torch.tensor(pairs, device=subject.device)
        batch = Batch.of(places, subject.device).only(range(len(places)))
        state = forward(subject, batch, batch.at[:, None], keep_blocks=first > 0)
        hidden = state.final[:, 0]
        base = subject.token_logits(hidden, both[:, 0]) - subject.token_logits(hidden, both[:, 1])
        # a pass runs at least its last layer
        return cls(
            subject, batch, both[:, 0], both[:, 1], base.cpu(), min(first, subject.n_layers - 1), state.block_outputs
        )

    def repeated(self, rows: Sequence[int]) -> QuestionRows:
        """These rows, in this order; a row may come several times."""
        batch = self.batch.only(rows)
        at = torch.tensor(list(rows), device=self.pre.device)
        blocks = None if self.blocks is None else self.blocks.only(rows, batch.ids.shape[1])
        return QuestionRows(self.subject, batch, self.pre[at], self.doc[at], self.base[list(rows)], self.first, blocks)

    def margins(
        self, rows: Sequence[int], updates: Stack, gains: Float[Tensor, " rows"], *, gradients: bool = False
    ) -> Float[Tensor, " rows"]:
        """f(y_pre) - f(y_doc) of some rows, nats; f is the base with one update per row, at its gain in every layer."""
        subject, chosen = self.subject, self.repeated(rows)
        point = None if chosen.blocks is None or not self.first else ResumePoint(chosen.blocks, self.first)
        by_layer = gains[:, None].expand(-1, subject.n_layers).contiguous()
        with torch.enable_grad() if gradients else nullcontext(), attached(subject, updates, by_layer):
            state = forward(subject, chosen.batch, chosen.batch.at[:, None], resume=point, gradients=gradients)
            hidden = state.final[:, 0]
            return subject.token_logits(hidden, chosen.pre) - subject.token_logits(hidden, chosen.doc)

    def moved(self, rows: Sequence[int], updates: Stack, gains: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """How far one update per row moves the prior margin of some rows, nats."""
        with torch.no_grad():
            return self.margins(rows, updates, gains).cpu() - self.base[list(rows)]
