"""Items under one tokenizer, no model needed: where each is read, and which answers are long, begin alike or are the same."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from margins.answers import Divergence, common_length, diverge, joined
from margins.items import Item, ItemError


@dataclass(frozen=True)
class InTokens:
    """One item's answers in tokens.

    `n_shared` counts the tokens that both answers of a conflict begin with, so that the margin is read after them;
    `n_answer` is the length of the document's answer. Where the item cannot be measured `fault` says why and both are 0.
    """

    item: Item
    n_shared: int = 0
    n_answer: int = 0
    fault: str | None = None


def in_tokens(tokenizer: Any, items: Sequence[Item]) -> list[InTokens]:
    """Every item's answers under a tokenizer."""
    found = []
    for item in items:
        try:
            place = place_of(tokenizer, item)
        except ItemError as fault:
            found.append(InTokens(item, fault=str(fault)))
            continue
        text = templated(tokenizer, item.question) if item.chat else item.question
        alone, whole = (
            token_ids(tokenizer, part, special=not item.chat)
            for part in (text, joined(text, item.answer, chat=item.chat))
        )
        shared = place.at + 1 - place.start
        found.append(InTokens(item, shared, len(whole) - common_length(alone, whole)))
    return found


def place_of(tokenizer: Any, item: Item, system: str | None = None) -> Divergence:
    """Where an item is read under a tokenizer; its chat template applied if the item asks for it. Raises ItemError."""
    if item.chat:
        text = templated(tokenizer, item.question, system)
        return diverge(lambda whole: token_ids(tokenizer, whole, special=False), item, question=text)
    return diverge(lambda whole: token_ids(tokenizer, whole), item)


def token_ids(tokenizer: Any, text: str, *, special: bool = True) -> list[int]:
    """Token ids with what the tokenizer puts in front (BOS) and without what it puts behind (EOS)."""
    ids = list(tokenizer(text, add_special_tokens=special)["input_ids"])
    if special and ids and ids[-1] == tokenizer.eos_token_id and len(ids) > 1:
        ids = ids[:-1]
    return ids


def templated(tokenizer: Any, question: str, system: str | None = None) -> str:
    """The question as the user's turn of the model's chat template, up to where the assistant answers.

    A system prompt goes before it as a system turn. Raises ItemError where the template is absent, refuses a system
    turn (Gemma's does) or leaves its text out.
    """
    if not getattr(tokenizer, "chat_template", None):
        what = "the item has chat set" if system is None else "--system-prompt needs a chat template"
        raise ItemError(f"{what}, but the subject's tokenizer has no chat template")
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


def open_tokenizer(spec: str) -> Any:
    """The tokenizer of a subject's folder, or of a named subject; no weights are read. Raises ItemError."""
    from transformers import AutoTokenizer

    from probes.load import home

    if spec == "organism":
        from probes.organism.load import load

        folder = Path(load().model_folder)
    else:
        folder = home() / spec if spec == "smollm2" else Path(spec)
    if not folder.is_dir():
        near = difflib.get_close_matches(spec, ("organism", "smollm2"), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; need a folder that a tokenizer was saved in"
        raise ItemError(f"--tokenizer {spec}: no such folder{hint}")
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as fault:  # whatever the library raises on a folder that holds no tokenizer
        reason = " ".join(str(fault).split())[:200] or type(fault).__name__
        raise ItemError(f"--tokenizer {spec}: no tokenizer can be read from this folder: {reason}") from fault
