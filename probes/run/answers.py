"""Answers in words: what is generated for a unit's items under each condition, and whether it names what it should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import AnyAdapter
from override_gap.margins.items.item import Item
from override_gap.margins.items.matching import says, says_substring, why_not_judged
from override_gap.probes.attach.runtime import batched, prefix_length
from override_gap.probes.readings.batching import BatchSizer
from override_gap.probes.readings.generation import Sampling, generate
from override_gap.probes.run.item_faults import ITEM_FAULTS, reason_of
from override_gap.probes.run.rows import failed
from override_gap.probes.subject.model import Subject

#: Probes for which items are answered in words.
ANSWER_PROBES = frozenset({"answers", "sampled"})
#: Tokens of an answer that a model's positions must leave room for, or the answer is not judged.
LEAST_ROOM = 16


@dataclass(frozen=True)
class AnswerRequest:
    """One item under one condition: its row of the readings, the question as put, and what acts on the weights."""

    row: dict[str, Any]
    item: Item
    question: str
    adapter: AnyAdapter | None
    gains: Float[Tensor, " layer"] | None


@dataclass(frozen=True)
class Answer:
    """The text generated for a request, or the reason why there is none; `cut` where the model has no room for an answer."""

    request: AnswerRequest
    text: str = ""
    reason: str | None = None
    cut: bool = False


def answer(subject: Subject, requests: Sequence[AnswerRequest], batch_size: int, batch_sizer: BatchSizer) -> int:
    """Write greedy answers into the rows of the readings; returns how many rows a fault turned into errors instead."""
    errors = 0
    for done in _answers(subject, requests, batch_size, batch_sizer, None):
        if done.reason is not None:
            errors += _turn_into_error(done.request, done.reason)
            continue
        done.request.row["answer_text"] = done.text
        done.request.row["success_answer"] = _judged(done)
        done.request.row["success_answer_substring"] = (
            None if done.cut else says_substring(done.text, done.request.item)
        )
    return errors


def draw(
    subject: Subject,
    requests: Sequence[AnswerRequest],
    batch_size: int,
    sampled: Sequence[Sampling],
    batch_sizer: BatchSizer,
) -> tuple[list[dict[str, Any]], int]:
    """Sampled answers as rows of their own, one per item, condition, temperature and draw.

    Also how many rows of the readings a fault turned into errors; such a row has no drawn answers.
    """
    identity = ("item", "point", "split", "tier", "condition", "known")
    drawn, errors = [], 0
    for sampling in sampled:
        requests = [request for request in requests if request.row["status"] == "ok"]
        for done in _answers(subject, requests, batch_size, batch_sizer, sampling):
            if done.reason is not None:
                errors += _turn_into_error(done.request, done.reason)
                continue
            drawn.append(
                {
                    **{name: done.request.row.get(name) for name in identity},
                    "temperature": sampling.temperature,
                    "draw": sampling.draw,
                    "answer_text": done.text,
                    "success_answer": _judged(done),
                    "success_answer_substring": None if done.cut else says_substring(done.text, done.request.item),
                }
            )
    complete = {(r.row["item"], r.row["condition"]) for r in requests if r.row["status"] == "ok"}
    return [row for row in drawn if (row["item"], row["condition"]) in complete], errors


def _judged(done: Answer) -> bool | None:
    """Whether the text gives the document's answer; None for an item of which no text can be judged, and without room."""
    return None if done.cut or why_not_judged(done.request.item) else says(done.text, done.request.item)


def _is_cut(subject: Subject, request: AnswerRequest, item: Item) -> bool:
    """Whether the model has no room for LEAST_ROOM tokens of an answer: that its text lacks a name says nothing then."""
    most, before = subject.max_positions, prefix_length(request.adapter)
    # a token has a byte or more, a tokenizer adds a few; a chat template adds any number
    if most is None or (not item.chat and len(item.question.encode()) + 8 + before + LEAST_ROOM <= most):
        return False
    return len(subject.prompt_ids(item)) + before + LEAST_ROOM > most


def _turn_into_error(request: AnswerRequest, reason: str) -> int:
    """Replace a request's row by an error row; returns 1, the number of rows."""
    condition = request.row["condition"]
    request.row.clear()
    request.row.update(failed(request.item, condition, reason))
    return 1


def _answers(
    subject: Subject,
    requests: Sequence[AnswerRequest],
    batch_size: int,
    batch_sizer: BatchSizer,
    sampling: Sampling | None,
) -> Iterator[Answer]:
    """Each request's answer. Requests of like length share a batch; those without an adapter have batches of their own."""

    def generated(batch: Sequence[AnswerRequest]) -> list[Answer]:
        items = [replace(request.item, question=request.question) for request in batch]
        adapters = [request.adapter for request in batch if request.adapter is not None]
        gains = [request.gains for request in batch if request.gains is not None]
        together, stacked_gains = None, None
        try:
            if adapters:
                together, stacked_gains = batched(subject, adapters, [0] * len(batch)), torch.stack(gains)
            texts = generate(subject, items, together, stacked_gains, sampling=sampling)
            return [
                Answer(request, text, cut=_is_cut(subject, request, item))
                for request, item, text in zip(batch, items, texts, strict=True)
            ]
        except ITEM_FAULTS as fault:
            reason = reason_of(fault)
        if len(batch) == 1:
            return [Answer(batch[0], reason=reason)]
        return [done for request in batch for done in generated([request])]

    for bare in (True, False):
        alike = [request for request in requests if (request.adapter is None) is bare]
        batches = [alike[first : first + batch_size] for first in range(0, len(alike), batch_size)]
        for answers in batch_sizer.each(
            batches, generated, lambda request, _: [Answer(request, reason="memory ran out for this answer alone")]
        ):
            yield from answers
