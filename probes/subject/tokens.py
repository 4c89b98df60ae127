"""Items under one tokenizer, no model needed: where each is read, and which answers are long, share a beginning or are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from jinja2 import TemplateError
from torch import Tensor

from override_gap.margins.items.divergence import Divergence, common_length, diverge
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.joining import joined, stated_separator


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


def tokenize_items(tokenizer: Any, items: Sequence[Item]) -> list[ItemTokens]:
    """Every item's answers under a tokenizer, in order."""
    rows = []
    for item in items:
        try:
            divergence = divergence_of(tokenizer, item)
        except ItemError as fault:
            rows.append(ItemTokens(item, fault=str(fault)))
            continue
        text = chat_prompt(tokenizer, item.question) if item.chat else item.question
        question, whole = (
            token_ids(tokenizer, words, special=not item.chat)
            for words in (text, joined(text, item.answer, chat=item.chat, separator=stated_separator(item)))
        )
        shared = max(0, divergence.at + 1 - divergence.start)
        rows.append(ItemTokens(item, shared, len(whole) - common_length(question, whole)))
    return rows


def divergence_of(tokenizer: Any, item: Item, system: str | None = None) -> Divergence:
    """Where an item is read under a tokenizer; the chat template is applied where the item has `chat` set. Raises ItemError."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if item.chat:
        text = chat_prompt(tokenizer, item.question, system)
        return diverge(lambda whole: token_ids(tokenizer, whole, special=False), item, text, unknown=unknown)
    return diverge(lambda whole: token_ids(tokenizer, whole), item, unknown=unknown)


def token_ids(tokenizer: Any, text: str, *, special: bool = True) -> list[int]:
    """Token ids, with the BOS token that the tokenizer puts in front and without the EOS token that it puts behind."""
    ids = list(tokenizer(text, add_special_tokens=special)["input_ids"])
    if special and ids and ids[-1] == tokenizer.eos_token_id and len(ids) > 1:
        ids = ids[:-1]
    return ids


def chat_prompt(tokenizer: Any, question: str, system: str | None = None) -> str:
    """The question as the user's turn of the model's chat template, up to where the assistant answers.

    A system prompt goes before it as a system turn. Raises ItemError where there is no template, where it refuses a
    system turn (Gemma's does) or leaves its text out.
    """
    if not getattr(tokenizer, "chat_template", None):
        needed_by = "the item has chat set" if system is None else "--system-prompt needs a chat template"
        raise ItemError(f"{needed_by}, but the subject's tokenizer has no chat template")
    turns = [{"role": "user", "content": question}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except TemplateError as fault:
        raise ItemError(f"the subject's chat template refuses the turns: {fault}") from fault
    if system is not None and system.strip() not in text:
        raise ItemError("--system-prompt: the subject's chat template leaves the system turn out")
    return text


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
