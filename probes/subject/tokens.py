"""Items under one tokenizer, no model needed: where each is read, and which answers are long, share a beginning or are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from override_gap.margins.items.divergence import Divergence, common_length, diverge
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.joining import joined, stated_separator
from override_gap.probes.subject.chat import chat_prompt
from override_gap.probes.subject.chat_template import ChatSettings


@dataclass(frozen=True)
class ItemTokens:
    """One item's answers in tokens.

    `n_shared` counts the tokens that both answers of a conflict begin with, so that the margin is read after them;
    `n_answer` is the length of the document's answer. Where the item cannot be measured `fault` says why and both are 0.
    """

    item: Item
    n_shared: int = 0
    n_answer: int = 0
    fault: str | None = None


def tokenize_items(tokenizer: Any, items: Sequence[Item], chat: ChatSettings | None = None) -> list[ItemTokens]:
    """Every item's answers under a tokenizer, in order; `chat` is how those with `chat` set are put through a template."""
    rows = []
    for item in items:
        try:
            divergence = divergence_of(tokenizer, item, chat)
        except ItemError as fault:
            rows.append(ItemTokens(item, fault=str(fault)))
            continue
        text = chat_prompt(tokenizer, item.question, chat).text if item.chat else item.question
        question, whole = (
            token_ids(tokenizer, words, special=not item.chat)
            for words in (text, joined(text, item.answer, chat=item.chat, separator=stated_separator(item)))
        )
        shared = max(0, divergence.at + 1 - divergence.start)
        rows.append(ItemTokens(item, shared, len(whole) - common_length(question, whole)))
    return rows


def divergence_of(tokenizer: Any, item: Item, chat: ChatSettings | None = None) -> Divergence:
    """Where an item is read under a tokenizer; a chat template is applied where the item has `chat` set. Raises ItemError."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if item.chat:
        text = chat_prompt(tokenizer, item.question, chat).text
        return diverge(lambda whole: token_ids(tokenizer, whole, special=False), item, text, unknown=unknown)
    return diverge(lambda whole: token_ids(tokenizer, whole), item, unknown=unknown)


def without_length_warning(tokenizer: Any) -> Any:
    """The tokenizer, which no longer warns of texts longer than the model's positions: the item's own row says so."""
    told = getattr(tokenizer, "deprecation_warnings", None)
    if isinstance(told, dict):
        told["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def token_ids(tokenizer: Any, text: str, *, special: bool = True) -> list[int]:
    """Token ids, with the BOS token that the tokenizer puts in front and without the EOS token that it puts behind."""
    ids = list(tokenizer(text, add_special_tokens=special)["input_ids"])
    if special and ids and ids[-1] == tokenizer.eos_token_id and len(ids) > 1:
        ids = ids[:-1]
    return ids


def prompt_ids(tokenizer: Any, item: Item, chat: ChatSettings | None = None) -> list[int]:
    """The tokens after which an item is answered: those of its question.

    White space at the question's end is left out where the tokenizer writes it as part of the answer's first token, so that
    margins are read after the same tokens. A word of the question that merges with an answer stays: without it another
    question would be asked.
    """
    text = chat_prompt(tokenizer, item.question, chat).text if item.chat else item.question
    question = token_ids(tokenizer, text, special=not item.chat)
    try:
        shared = divergence_of(tokenizer, item, chat).n_question_tokens
    except ItemError:
        return question
    return question if tokenizer.decode(question[shared:]).strip() else question[:shared]


def pad(
    rows: Sequence[Sequence[int]], side: str = "right"
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Token rows as one tensor, and its mask (1 for real tokens). The pad is token 0; the mask hides it."""
    width = max(map(len, rows))

    def padded(row: Sequence[int]) -> list[int]:
        padding = [0] * (width - len(row))
        return [*row, *padding] if side == "right" else [*padding, *row]

    ids, mask = [padded(row) for row in rows], [padded([1] * len(row)) for row in rows]
    return torch.tensor(ids, dtype=torch.long), torch.tensor(mask, dtype=torch.long)
