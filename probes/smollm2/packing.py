"""Packing: several short texts per row, each attending to itself alone, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM

WIDTH = 160
"""Tokens per row, unless a text is longer. A larger width costs more attention and less padding."""


@dataclass(frozen=True)
class PackedTexts:
    """Texts packed into rows: token k of text n is at row `row[n]`, column `start[n] + k`."""

    ids: Int[Tensor, "row column"]
    positions: Int[Tensor, "row column"]
    """Position of each token within its own text."""
    text: Int[Tensor, "row column"]
    """Index of the text, -1 for padding."""
    row: tuple[int, ...]
    start: tuple[int, ...]

    def attention_mask(self, dtype: torch.dtype) -> Float[Tensor, "row 1 column column"]:
        """Added to attention scores: 0 where a token may attend (causally, within its own text), elsewhere -1e9."""
        width = self.ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        visible = (self.text[:, :, None] == self.text[:, None, :]) & causal
        return torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, -1e9)[:, None]

    def unpack(self, packed: Float[Tensor, "row column d"], width: int) -> Float[Tensor, "text pos d"]:
        """One row per text again, zeros behind each."""
        out = packed.new_zeros(len(self.row), width, packed.shape[-1])
        filled = self.text >= 0
        out[self.text[filled], self.positions[filled]] = packed[filled]
        return out


def pack(texts: Sequence[Sequence[int]]) -> PackedTexts:
    """Pack texts first-fit, longest first."""
    width = max(WIDTH, *map(len, texts)) if len(texts) > 1 else len(texts[0])
    used: list[int] = []
    row, start = [0] * len(texts), [0] * len(texts)
    for n in sorted(range(len(texts)), key=lambda n: -len(texts[n])):
        fitting = [r for r, length in enumerate(used) if length + len(texts[n]) <= width]
        row[n] = fitting[0] if fitting else len(used)
        used += [] if fitting else [0]
        start[n] = used[row[n]]
        used[row[n]] += len(texts[n])
    shape = (len(used), max(used))
    ids, positions, owner = (
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape, dtype=torch.long),
        torch.full(shape, -1),
    )
    for n, text in enumerate(texts):
        span = slice(start[n], start[n] + len(text))
        ids[row[n], span] = torch.tensor(text)
        positions[row[n], span] = torch.arange(len(text))
        owner[row[n], span] = n
    return PackedTexts(ids, positions, owner, tuple(row), tuple(start))


def run_layers(
    base: LlamaForCausalLM, texts: PackedTexts, residual: Float[Tensor, "row column d_model"], layers: range
) -> Float[Tensor, "row column d_model"]:
    """The residual stream of packed texts after `layers`, from that before them."""
    rotary, mask = base.model.rotary_emb(residual, texts.positions), texts.attention_mask(residual.dtype)
    for layer in layers:
        residual = base.model.layers[layer](
            residual, attention_mask=mask, position_ids=texts.positions, position_embeddings=rotary, use_cache=False
        )
    return residual
