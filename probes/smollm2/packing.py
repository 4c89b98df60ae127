"""Packing: short texts laid side by side in a few rows, blind to each other, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM

WIDTH = 160
"""Tokens a row, unless one text is longer. Attention grows with it, padding shrinks."""


@dataclass(frozen=True)
class Packed:
    """Texts in rows. Text n, token k stands at row[n][k], place[n][k]."""

    ids: Int[Tensor, "row place"]
    positions: Int[Tensor, "row place"]
    """Position of each token within its own text."""
    part: Int[Tensor, "row place"]
    """Number of the text, -1 for padding."""
    row: tuple[int, ...]
    start: tuple[int, ...]

    def unseen(self, dtype: torch.dtype) -> Float[Tensor, "row 1 place place"]:
        """What is added to attention scores: 0 for what a token sees, causally and within its text, else very low."""
        width = self.ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        visible = (self.part[:, :, None] == self.part[:, None, :]) & causal
        return torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, -1e9)[:, None]

    def spread(self, packed: Float[Tensor, "row place d"], width: int) -> Float[Tensor, "text pos d"]:
        """One row a text again, zeros behind each."""
        out = packed.new_zeros(len(self.row), width, packed.shape[-1])
        real = self.part >= 0
        out[self.part[real], self.positions[real]] = packed[real]
        return out


def pack(texts: Sequence[Sequence[int]]) -> Packed:
    """Lay texts out, the longest first, each in the first row that has room."""
    width = max(WIDTH, *map(len, texts)) if len(texts) > 1 else len(texts[0])
    filled: list[int] = []
    row, start = [0] * len(texts), [0] * len(texts)
    for n in sorted(range(len(texts)), key=lambda n: -len(texts[n])):
        room = [r for r, used in enumerate(filled) if used + len(texts[n]) <= width]
        row[n] = room[0] if room else len(filled)
        filled += [] if room else [0]
        start[n] = filled[row[n]]
        filled[row[n]] += len(texts[n])
    shape = (len(filled), max(filled))
    ids, positions, part = (
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape, dtype=torch.long),
        torch.full(shape, -1),
    )
    for n, text in enumerate(texts):
        span = slice(start[n], start[n] + len(text))
        ids[row[n], span] = torch.tensor(text)
        positions[row[n], span] = torch.arange(len(text))
        part[row[n], span] = n
    return Packed(ids, positions, part, tuple(row), tuple(start))


def through(
    base: LlamaForCausalLM, texts: Packed, stream: Float[Tensor, "row place d_model"], layers: range
) -> Float[Tensor, "row place d_model"]:
    """The residual stream of packed texts from before the first of some layers to behind the last."""
    turn, unseen = base.model.rotary_emb(stream, texts.positions), texts.unseen(stream.dtype)
    for layer in layers:
        stream = base.model.layers[layer](
            stream, attention_mask=unseen, position_ids=texts.positions, position_embeddings=turn, use_cache=False
        )
    return stream
