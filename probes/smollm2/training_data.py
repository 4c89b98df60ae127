"""Training batches: documents and their questions as tensors, and the base's layers run on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM

from override_gap.probes.smollm2.packing import PackedTexts, pack, run_layers
from override_gap.probes.smollm2.statements import TrainingDocument

ANSWER_TOKENS = 4
"""Number of an answer's tokens that have a loss; later ones follow from these."""


@dataclass(frozen=True)
class DocumentBatch:
    """One batch: tokenised documents and packed questions; a `read` is a position whose next token has a loss."""

    documents: tuple[tuple[int, ...], ...]
    questions: PackedTexts
    document_of: Int[Tensor, "row column"]
    """Index of each token's document, -1 for padding."""
    row: Int[Tensor, " read"]
    column: Int[Tensor, " read"]
    answer: Int[Tensor, " read"]
    """Token of the document's answer, or -1 where the base's own distribution is the target."""
    first: Bool[Tensor, " read"]
    """Whether it is an answer's first token."""


def document_batch(tokenizer: Any, documents: Sequence[TrainingDocument]) -> DocumentBatch:
    """Tokenise documents and questions; a question and its answer are tokenised together, separated by a space."""
    texts, owner, reads = [], [], []
    for n, document in enumerate(documents):
        for question, answer in [*document.answered, *((question, None) for question in document.retained)]:
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
    document_of = torch.tensor([*owner, -1])[packed.text]  # text -1, padding, takes the -1 at the end
    text, position, answer, first = (list(column) for column in zip(*reads, strict=True))
    return DocumentBatch(
        documents=tuple(tuple(tokenizer(document.text)["input_ids"]) for document in documents),
        questions=packed,
        document_of=document_of,
        row=torch.tensor([packed.row[n] for n in text]),
        column=torch.tensor([packed.start[n] + k for n, k in zip(text, position, strict=True)]),
        answer=torch.tensor(answer),
        first=torch.tensor(first),
    )


def run_lower_layers(
    base: LlamaForCausalLM, batch: DocumentBatch, first_layer: int
) -> Float[Tensor, "row column d_model"]:
    """Residual stream of the questions before `first_layer`, below which no update acts; without gradients."""
    with torch.no_grad():
        return run_layers(base, batch.questions, base.model.embed_tokens(batch.questions.ids), range(first_layer))


def run_upper_layers(
    base: LlamaForCausalLM, batch: DocumentBatch, residual: Float[Tensor, "row column d_model"], first_layer: int
) -> Float[Tensor, "read vocab"]:
    """Log-probabilities of the next token at each read, from the residual stream before `first_layer`."""
    residual = run_layers(base, batch.questions, residual, range(first_layer, len(base.model.layers)))
    return base.lm_head(base.model.norm(residual[batch.row, batch.column])).float().log_softmax(-1)
