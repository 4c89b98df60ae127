"""Answers in words: what a unit's items are answered under a condition, and whether that names what it should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import AnyAdapter
from override_gap.margins.items.item import Item
from override_gap.margins.items.matching import says, says_substring
from override_gap.probes.attach.runtime import batched
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.batching import BatchSizer
from override_gap.probes.readings.generation import Sampling, generate
from override_gap.probes.run.rows import failed
from override_gap.probes.subject.model import Subject

#: Probes that need items answered in words.
ANSWER_PROBES = frozenset({"answers", "sampled"})


@dataclass(frozen=True)
class AnswerRequest:
    """One item under one condition: its row of the readings, the question as put, and what acts on the weights."""

    row: dict[str, Any]
    item: Item
    question: str
    adapter: AnyAdapter | None
    gains: Float[Tensor, " layer"] | None


def answer(subject: Subject, asked: Sequence[AnswerRequest], batch_size: int, room: BatchSizer) -> int:
    """Greedy answers into the rows of the readings; returns how many rows a fault made errors instead."""
    lost = 0
    for own, text, reason in _texts(subject, asked, batch_size, room, None):
        if reason is not None:
            lost += _lose(own, reason)
            continue
        own.row["answer_text"] = text
        own.row["success_answer"] = says(text, own.item)
        own.row["success_answer_substring"] = says_substring(text, own.item)
    return lost


def draw(
    subject: Subject, asked: Sequence[AnswerRequest], batch_size: int, sampled: Sequence[Sampling], room: BatchSizer
) -> tuple[list[dict[str, Any]], int]:
    """Sampled answers as rows of their own: one an item, condition, temperature and draw.

    And how many rows of the readings a fault made errors; such a row has no drawn answers.
    """
    kept = ("item", "point", "split", "tier", "condition", "known")
    drawn, lost = [], 0
    for sampling in sampled:
        asked = [own for own in asked if own.row["status"] == "ok"]
        for own, text, reason in _texts(subject, asked, batch_size, room, sampling):
            if reason is not None:
                lost += _lose(own, reason)
                continue
            drawn.append(
                {
                    **{name: own.row.get(name) for name in kept},
                    "temperature": sampling.temperature,
                    "draw": sampling.draw,
                    "answer_text": text,
                    "success_answer": says(text, own.item),
                    "success_answer_substring": says_substring(text, own.item),
                }
            )
    whole = {(own.row["item"], own.row["condition"]) for own in asked if own.row["status"] == "ok"}
    return [row for row in drawn if (row["item"], row["condition"]) in whole], lost


def _lose(own: AnswerRequest, reason: str) -> int:
    """Make an item's row the error that it is; one row."""
    condition = own.row["condition"]
    own.row.clear()
    own.row.update(failed(own.item, condition, reason))
    return 1


def _texts(
    subject: Subject, asked: Sequence[AnswerRequest], batch_size: int, room: BatchSizer, sampling: Sampling | None
) -> Iterator[tuple[AnswerRequest, str, str | None]]:
    """Each item with its answer, or with the reason why there is none.

    Items of like length share a batch, those without an adapter a batch of their own.
    """

    def generated(part: Sequence[AnswerRequest]) -> list[tuple[AnswerRequest, str, str | None]]:
        items = [replace(own.item, question=own.question) for own in part]
        adapters = [own.adapter for own in part if own.adapter is not None]
        gains = [own.gains for own in part if own.gains is not None]
        together, loud = None, None
        try:
            if adapters:
                together, loud = batched(subject, adapters, [0] * len(part)), torch.stack(gains)
            texts = generate(subject, items, together, loud, sampling=sampling)
            return [(own, text, None) for own, text in zip(part, texts, strict=True)]
        except AdapterError as fault:
            reason = str(fault)
        if len(part) == 1:
            return [(part[0], "", reason)]
        return [found for own in part for found in generated([own])]

    for bare in (True, False):
        some = [own for own in asked if (own.adapter is None) is bare]
        parts = [some[first : first + batch_size] for first in range(0, len(some), batch_size)]
        for found in room.each(parts, generated, lambda own, _: [(own, "", "memory ran out for this answer alone")]):
            yield from found
