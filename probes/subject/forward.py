"""One forward pass over a batch: the final state and the residual stream, read at the positions asked for and no others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.items.divergence import Divergence
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import BlockOutputs, ResumePoint, recording, resumed
from override_gap.probes.subject.rope_lengths import lengths_apart
from override_gap.probes.subject.shared_prefix import SharedPrefix, can_share, with_prefix
from override_gap.probes.subject.tokens import pad
from override_gap.probes.timing import timed


@dataclass(frozen=True)
class Batch:
    """Token rows padded to one width. `at` is the position read in each: it predicts the first differing token.

    `shift` is how many positions padding on the left adds in front of a row.
    """

    ids: Int[Tensor, "batch pos"]
    mask: Int[Tensor, "batch pos"]
    at: Int[Tensor, " batch"]
    shift: Int[Tensor, " batch"]

    @classmethod
    def of(cls, divergences: Sequence[Divergence], device: torch.device, side: str = "right") -> Batch:
        """Pad the rows on the given side."""
        ids, mask = pad([d.fed for d in divergences], side)
        shift = ids.shape[1] - mask.sum(1) if side == "left" else torch.zeros(len(ids), dtype=torch.long)
        at = torch.tensor([d.at for d in divergences]) + shift
        return cls(ids.to(device), mask.to(device), at.to(device), shift.to(device))

    def only(self, rows: Sequence[int]) -> Batch:
        """Some rows, cut after the last position read in them: later positions have no effect on it."""
        chosen = torch.tensor(list(rows), device=self.ids.device)
        at = self.at[chosen]
        width = int(at.max()) + 1
        return Batch(self.ids[chosen, :width], self.mask[chosen, :width], at, self.shift[chosen])


@dataclass(frozen=True)
class ForwardState:
    """What one pass read: the final normalised state at the positions read.

    Where asked for, `residual` is the stream before the first layer and after each, and `block_outputs` what every block
    gave, from which another pass can resume; None also where that would be too large to keep.
    """

    final: Float[Tensor, "batch read d_model"]
    residual: Float[Tensor, "batch depth d_model"] | None
    block_outputs: BlockOutputs | None = None


@dataclass(frozen=True)
class CachedPrefix:
    """What comes before a batch's tokens: a cache of keys and values, and a mask of the positions that each row sees."""

    cache: Any
    mask: Int[Tensor, "batch past"]


def forward(
    subject: Subject,
    batch: Batch,
    read: Int[Tensor, "batch read"],
    *,
    layers: bool = False,
    past: CachedPrefix | None = None,
    resume: ResumePoint | None = None,
    keep_blocks: bool = False,
    gradients: bool = False,
    share: bool = False,
) -> ForwardState:
    """Run the model without its unembedding; the final state at `read` and, with `layers`, the stream at `batch.at`.

    `resume`: take over the lower layers of another pass of the same rows. `keep_blocks`: return every block's output, so
    that another pass can do so. `gradients`: keep what a backward pass needs. `share`: no adapter is attached, so that tokens
    which all rows begin with may be run once (`SharedPrefix`).
    Rows are picked inside the hooks, so memory grows with layers x batch, not with positions.
    Position ids come from the mask: without them, padding on the left is silently wrong on learned positions.
    """
    rows = torch.arange(len(batch.ids), device=batch.ids.device)
    stream: list[Float[Tensor, "batch d_model"]] = []
    below = resume.layer if resume is not None else 0
    share = share and past is None and resume is None and can_share(subject)
    with ExitStack() as undo:
        undo.enter_context(torch.set_grad_enabled(gradients))
        if resume is not None:
            undo.enter_context(resumed(subject, resume))
        outputs = undo.enter_context(recording(subject, batch.ids.numel())) if keep_blocks else []
        prefix = None
        if share:
            with timed("model"):
                prefix = SharedPrefix.of(subject, batch.ids, batch.mask, int(read.min()))
        skipped = prefix.length if prefix is not None else 0
        of_prefix = list(outputs)
        outputs.clear()
        if layers:
            if below:
                assert resume is not None
                assert resume.residual is not None, "a stream is resumed from a pass that kept its own"
                stream += resume.residual[:, : below + 1].unbind(1)
            flat = rows * (batch.ids.shape[1] - skipped) + batch.at - skipped

            def read_stream(out: Float[Tensor, "batch pos d_model"]) -> None:
                with timed("hooks"):
                    at_positions = out.flatten(0, 1).index_select(0, flat.to(out.device))
                    stream.append(at_positions.float().to(rows.device))

            def read_input(_: object, args: tuple[Any, ...], named: dict[str, Any]) -> None:
                read_stream(args[0] if args else named["hidden_states"])

            def read_output(_: object, _args: object, out: Any) -> None:
                read_stream(out if isinstance(out, Tensor) else out[0])

            if not below:
                undo.callback(subject.blocks[0].register_forward_pre_hook(read_input, with_kwargs=True).remove)
            for block in subject.blocks[below:]:
                undo.callback(block.register_forward_hook(read_output).remove)
        positions = (batch.mask.cumsum(1) - 1).clamp_min(0)
        mask, cached = batch.mask, {}
        if past is not None:
            # a row with too many positions becomes an error row, but learned position embeddings must not be exceeded
            last = (subject.max_positions or mask.shape[1] + past.mask.shape[1]) - 1
            positions = (positions + past.mask.sum(1, keepdim=True)).clamp_max(last)
            mask = torch.cat([past.mask, batch.mask], dim=1)
            cached = {"past_key_values": past.cache}
        if prefix is not None:
            cached = {"past_key_values": prefix.cache}
        undo.enter_context(lengths_apart(subject.decoder, positions))
        with timed("model"):
            out = subject.decoder(
                input_ids=batch.ids[:, skipped:],
                attention_mask=mask,
                position_ids=positions[:, skipped:],
                use_cache=False,
                **cached,
            )
        final = out.last_hidden_state[rows[:, None], read - skipped].float()
        residual = torch.stack(stream, dim=1) if layers else None
    kept = BlockOutputs(tuple(outputs)) if outputs else None
    if kept is not None and of_prefix:
        kept = with_prefix(BlockOutputs(tuple(of_prefix)), kept)
    return ForwardState(final, residual, kept)
