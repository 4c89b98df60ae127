"""One forward pass over a batch, reading the final state and the stream only at the positions that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.items.divergence import Divergence
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.tokens import pad
from override_gap.probes.timing import timed


@dataclass(frozen=True)
class Batch:
    """Token rows padded to one width, and where to read each: `at` predicts the first differing token.

    `shift` is what padding on the left adds to a row's positions.
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
        """Some rows, and no more positions than the last that is read in them: nothing after it can reach back."""
        chosen = torch.tensor(list(rows), device=self.ids.device)
        at = self.at[chosen]
        width = int(at.max()) + 1
        return Batch(self.ids[chosen, :width], self.mask[chosen, :width], at, self.shift[chosen])


@dataclass(frozen=True)
class ForwardState:
    """What one pass read: the final normalised state, and the stream before and after every layer if asked for."""

    final: Float[Tensor, "batch read d_model"]
    residual: Float[Tensor, "batch layer d_model"] | None


@dataclass(frozen=True)
class CachedPrefix:
    """What comes before a batch's tokens: a cache of keys and values, and which of its positions each row sees."""

    cache: Any
    mask: Int[Tensor, "batch past"]


@dataclass(frozen=True)
class ResumePoint:
    """Where a pass takes up another: the layers under `layer` give what they gave in `trunk`.

    `residual` is the other pass's stream at the reading positions, `written` what its updates wrote there.
    """

    trunk: BlockOutputs
    layer: int
    residual: Float[Tensor, "batch layer d_model"] | None = None
    written: Float[Tensor, "batch layer d_model"] | None = None


@torch.no_grad()
def forward(
    subject: Subject,
    batch: Batch,
    read: Int[Tensor, "batch read"],
    *,
    layers: bool = False,
    past: CachedPrefix | None = None,
    start: ResumePoint | None = None,
    keep: list[Any] | None = None,
) -> ForwardState:
    """Run the model without its unembedding; keep the final state at `read`, the stream at `batch.at`.

    `start`: take up another pass of the same rows. `keep` is given every block's output, to be taken up in turn.
    Rows are picked inside the hooks, so memory grows with layers x batch, not with positions.
    Position ids come from the mask: without them, padding on the left is silently wrong on learned positions.
    """
    rows = torch.arange(len(batch.ids), device=batch.ids.device)
    stream: list[Float[Tensor, "batch d_model"]] = []
    below = start.layer if start is not None else 0
    with ExitStack() as undo:
        if start is not None:
            undo.enter_context(from_layer(subject, start.trunk, below))
        if keep is not None:
            undo.enter_context(keeping(subject, batch.ids.numel(), keep))
        if layers:
            if below:
                assert start is not None
                assert start.residual is not None, "a stream is taken up from one that was kept"
                stream += start.residual[:, : below + 1].unbind(1)
            flat = rows * batch.ids.shape[1] + batch.at

            def read_stream(out: Tensor) -> None:
                with timed("hooks"):
                    read = out.flatten(0, 1).index_select(0, flat.to(out.device))
                    stream.append(read.float().to(rows.device))

            def enters(_: object, args: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
                read_stream(args[0] if args else named["hidden_states"])

            def leaves(_: object, _args: object, out: Any) -> None:
                read_stream(out if isinstance(out, Tensor) else out[0])

            if not below:
                undo.callback(subject.blocks[0].register_forward_pre_hook(enters, with_kwargs=True).remove)
            for block in subject.blocks[below:]:
                undo.callback(block.register_forward_hook(leaves).remove)
        positions = (batch.mask.cumsum(1) - 1).clamp_min(0)
        before = {}
        mask = batch.mask
        if past is not None:
            # a row without room is an error row; its numbers are not kept, but learned positions end somewhere
            last = (subject.max_positions or mask.shape[1] + past.mask.shape[1]) - 1
            positions = (positions + past.mask.sum(1, keepdim=True)).clamp_max(last)
            mask = torch.cat([past.mask, batch.mask], dim=1)
            before = {"past_key_values": past.cache}
        with timed("model"):
            out = subject.model.base_model(
                input_ids=batch.ids, attention_mask=mask, position_ids=positions, use_cache=False, **before
            )
    final = out.last_hidden_state[rows[:, None], read].float()
    return ForwardState(final, torch.stack(stream, dim=1) if layers else None)


#: A batch whose streams take more than this, in bytes, shares nothing: what is kept must stay small beside the model.
KEPT_BYTES = 2**29


@dataclass(frozen=True)
class BlockOutputs:
    """One pass over a batch: what every block gave, at all positions.

    Causal attention: what a block gives at a position does not hang on later ones, so a shorter batch takes the first
    columns. Memory is layers x batch x positions x width, of one batch at a time, and bounded by KEPT_BYTES.
    """

    outs: tuple[Any, ...]

    def only(self, rows: Sequence[int], width: int) -> BlockOutputs:
        """The same pass, some of its rows and its first `width` positions."""
        return BlockOutputs(
            tuple(_map(out, lambda t: t[list(rows), :width] if t.ndim == 3 else t) for out in self.outs)
        )


@contextmanager
def keeping(subject: Subject, positions: int, outs: list[Any]) -> Iterator[None]:
    """Inside the block every block's output is put into the list; nothing is where it would be too large."""
    size = positions * subject.d_model * subject.n_layers * torch.finfo(subject.dtype).bits // 8
    with ExitStack() as undo:
        for block in subject.blocks if size <= KEPT_BYTES else ():
            undo.callback(block.register_forward_hook(lambda _m, _a, out: outs.append(out)).remove)
        yield


@contextmanager
def from_layer(subject: Subject, trunk: BlockOutputs | None, layer: int) -> Iterator[None]:
    """Inside the block the blocks under `layer` give what they gave in the trunk, and run nothing."""
    skipped = [vars(block) for block in subject.blocks[:layer]] if trunk is not None else []
    # accelerate's hooks are a block's own `forward`, which must be there again afterwards
    before = [own.get("forward") for own in skipped]
    try:
        for own, out in zip(skipped, trunk.outs if trunk is not None else (), strict=False):
            own["forward"] = lambda *_, out=out, **__: out
        yield
    finally:
        for own, forward in zip(skipped, before, strict=True):
            own.pop("forward", None)
            if forward is not None:
                own["forward"] = forward


def _map(out: Any, act: Any) -> Any:
    """Tensors of a block's output changed, whatever holds them."""
    if isinstance(out, Tensor):
        return act(out)
    return type(out)(_map(part, act) for part in out) if isinstance(out, (tuple, list)) else out
