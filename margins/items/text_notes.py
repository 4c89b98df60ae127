"""Notes on items' texts: what of them cannot be judged in words, or is read as other tokens than it looks."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from override_gap.margins.items.item import Item
from override_gap.margins.items.matching import is_sentence_punctuation, why_not_judged
from override_gap.margins.items.scripts import is_invisible


def text_notes(items: Sequence[Item]) -> list[str]:
    """A line for each kind of difficulty, with the number of items that have it and the first one named."""
    kinds: tuple[tuple[str, Callable[[Item], str | None]], ...] = (
        ("items that cannot be judged in words (the measure `answer` leaves them out)", why_not_judged),
        ("answers that end sentences, counted only where they stand apart from words", _punctuation),
        ("items with letters and accents apart, other tokens than one letter is (save the file in NFC)", _decomposed),
        ("items with an invisible character at an edge, which is read as a token of its own", _invisible),
    )
    lines = []
    for text, test in kinds:
        cases = [(item.id, note) for item in items for note in [test(item)] if note]
        if cases:
            lines.append(f"{text}: {len(cases)} of {len(items)}, the first {cases[0][0]}: {cases[0][1]}")
    return lines


def _texts(item: Item) -> dict[str, str]:
    texts = {"question": item.question, "answer": item.answer, "prior_answer": item.prior_answer or ""}
    return {name: text for name, text in texts.items() if not text.isascii()}


def _punctuation(item: Item) -> str | None:
    return f"answer {item.answer!r}" if is_sentence_punctuation(item.answer) else None


def _decomposed(item: Item) -> str | None:
    texts = {**_texts(item), "document": item.document}
    return next(
        (
            f"{name} {text[:40]!r}"
            for name, text in texts.items()
            if len(unicodedata.normalize("NFC", text)) < len(text)
        ),
        None,
    )


def _invisible(item: Item) -> str | None:
    for name, text in _texts(item).items():
        edges = text.strip()[:1] + text.strip()[-1:]
        # a joiner or a variation selector at the end belongs to an emoji or to a half word; at an edge alone it does not
        found = next((c for c in edges if is_invisible(c) and c not in "\u200c\u200d\ufe0f"), None)
        if found is not None:
            return f"U+{ord(found):04X} in {name} {text[:40]!r}"
    return None
