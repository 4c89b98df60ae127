"""Words that a tokenizer does not know: which items hold some, told once before a run instead of item by item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from override_gap.margins.items.item import Item
from override_gap.margins.text import plural
from override_gap.probes.subject.tokens import token_ids

SHOWN = 5
"""How many words are named."""


@dataclass(frozen=True)
class UnknownWords:
    """Of `n` items, how many hold words that become the unknown token, and how many in every answer; the first such words."""

    n: int
    in_items: int
    in_answers: int
    words: tuple[str, ...]

    def message(self, subject: str) -> str:
        """One line on what this means for a run on a subject."""
        return (
            f"the tokenizer of {subject} does not know words of {self.in_items} of {plural(self.n, 'item')} (as "
            f"{', '.join(map(repr, self.words))}), in all answers of {self.in_answers}: unknown words are all one token to "
            "it, so that such answers cannot be told apart; give --subject a model of the items' language"
        )


def unknown_words(tokenizer: Any, items: Sequence[Item]) -> UnknownWords | None:
    """The words of questions and answers that become the tokenizer's unknown token; None where there are none."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        return None
    words: dict[str, None] = {}
    in_items = in_answers = 0

    def has_unknown(text: str) -> bool:
        if unknown not in token_ids(tokenizer, text, special=False):
            return False
        if len(words) < SHOWN:
            words.update(
                dict.fromkeys(word for word in text.split() if unknown in token_ids(tokenizer, word, special=False))
            )
        return True

    for item in items:
        answers = [has_unknown(answer) for answer in (item.answer, item.prior_answer) if answer]
        in_answers += all(answers)
        in_items += has_unknown(item.question) or any(answers)
    return UnknownWords(len(items), in_items, in_answers, tuple(words)[:SHOWN]) if in_items else None
