"""Answers in words: what a unit's items are answered under a condition, and whether that names what it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from margins.adapter import Delivered
from margins.items import Item
from margins.mentions import says, says_substring
from probes.generation import Sampling, generate
from probes.opaque import side_by_side
from probes.subject import Subject

#: Probes that need items answered in words.
WORDED = frozenset({"answers", "sampled"})


@dataclass(frozen=True)
class Asked:
    """One item under one condition: its row of the readings, the question as put, and what acts on the weights."""

    row: dict[str, Any]
    item: Item
    question: str
    adapter: Delivered | None
    gains: Float[Tensor, " layer"] | None


def answer(subject: Subject, asked: Sequence[Asked], batch_size: int) -> None:
    """Greedy answers into the rows of the readings."""
    for own, text in _texts(subject, asked, batch_size, None):
        own.row["answer_text"] = text
        own.row["success_answer"] = says(text, own.item)
        own.row["success_answer_substring"] = says_substring(text, own.item)


def draw(
    subject: Subject, asked: Sequence[Asked], batch_size: int, sampled: Sequence[Sampling]
) -> list[dict[str, Any]]:
    """Sampled answers as rows of their own: one an item, condition, temperature and draw."""
    kept = ("item", "point", "split", "tier", "condition", "known")
    return [
        {
            **{name: own.row.get(name) for name in kept},
            "temperature": sampling.temperature,
            "draw": sampling.draw,
            "answer_text": text,
            "success_answer": says(text, own.item),
            "success_answer_substring": says_substring(text, own.item),
        }
        for sampling in sampled
        for own, text in _texts(subject, asked, batch_size, sampling)
    ]


def _texts(
    subject: Subject, asked: Sequence[Asked], batch_size: int, sampling: Sampling | None
) -> list[tuple[Asked, str]]:
    """Each item with its answer; items of like length share a batch, those without an adapter a batch of their own."""
    pairs: list[tuple[Asked, str]] = []
    for bare in (True, False):
        some = [own for own in asked if (own.adapter is None) is bare]
        for first in range(0, len(some), batch_size):
            part = some[first : first + batch_size]
            items = [replace(own.item, question=own.question) for own in part]
            adapters = [own.adapter for own in part if own.adapter is not None]
            gains = [own.gains for own in part if own.gains is not None]
            together, loud = None, None
            if not bare:
                together, loud = side_by_side(subject, adapters, [0] * len(part)), torch.stack(gains)
            pairs += zip(part, generate(subject, items, together, loud, sampling=sampling), strict=True)
    return pairs
