"""Lessons: sheets as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM

from override_gap.probes.smollm2.packing import Packed, pack, through
from override_gap.probes.smollm2.statements import TrainingSheet

ANSWER_TOKENS = 4
"""How many tokens of an answer are taught; what comes later follows from these."""


@dataclass(frozen=True)
class SheetTensors:
    """One batch: documents, and the questions that belong to them."""

    documents: tuple[tuple[int, ...], ...]
    questions: Packed
    whose: Int[Tensor, "row place"]
    """Document of each token, -1 for padding."""
    row: Int[Tensor, " read"]
    place: Int[Tensor, " read"]
    """Where the next token is read."""
    answer: Int[Tensor, " read"]
    """Token that the document asks for there, or -1 where the base's own distribution is to be kept."""
    first: Bool[Tensor, " read"]
    """Whether it is an answer's first token."""


def sheet_tensors(tokenizer: Any, sheets: Sequence[TrainingSheet]) -> SheetTensors:
    """Tokenise sheets; a question and its answer are tokenised together, parted by a space."""
    texts, owner, reads = [], [], []
    for n, sheet in enumerate(sheets):
        for question, answer in [*sheet.taught, *((question, None) for question in sheet.kept)]:
            ids = tokenizer(question)["input_ids"]
            start = len(ids)
            if answer is None:
                reads.append((len(texts), start - 1, -1, False))
            else:
                both = tokenizer(f"{question} {answer}")["input_ids"]
                assert both[:start] == ids, f"{question!r} and {answer!r} merge into one token"
                ids = both[: start + ANSWER_TOKENS]
                reads += [(len(texts), at - 1, ids[at], at == start) for at in range(start, len(ids))]
                ids = ids[:-1]
            texts.append(ids)
            owner.append(n)
    packed = pack(texts)
    whose = torch.tensor([*owner, -1])[packed.part]  # part -1 picks the -1 at the end
    text, at, answer, first = (list(column) for column in zip(*reads, strict=True))
    return SheetTensors(
        documents=tuple(tuple(tokenizer(sheet.document)["input_ids"]) for sheet in sheets),
        questions=packed,
        whose=whose,
        row=torch.tensor([packed.row[n] for n in text]),
        place=torch.tensor([packed.start[n] + k for n, k in zip(text, at, strict=True)]),
        answer=torch.tensor(answer),
        first=torch.tensor(first),
    )


def lower(base: LlamaForCausalLM, lesson: SheetTensors, until: int) -> Float[Tensor, "row place d_model"]:
    """The stream of the questions before layer `until`, below which no update acts."""
    with torch.no_grad():
        return through(base, lesson.questions, base.model.embed_tokens(lesson.questions.ids), range(until))


def upper(
    base: LlamaForCausalLM, lesson: SheetTensors, stream: Float[Tensor, "row place d_model"], since: int
) -> Float[Tensor, "read vocab"]:
    """Log-probabilities of the next token where the lesson reads, from the stream before layer `since`."""
    stream = through(base, lesson.questions, stream, range(since, len(base.model.layers)))
    return base.lm_head(base.model.norm(stream[lesson.row, lesson.place])).float().log_softmax(-1)
