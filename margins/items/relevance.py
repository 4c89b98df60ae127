"""Relevance: whether a document is about a question, by shared words alone; what the relevance-gate policy depends on."""

from __future__ import annotations

import re

STOP_WORDS = frozenset(
    "a an and are as at be been by can did do does for from had has have he her his how in into is it its known named of "
    "on or she than that the their them these they this to was were what when where which who whom whose why will with".split()
)


def content_words(text: str) -> frozenset[str]:
    """The words of a text without stop words, case-folded."""
    return frozenset(re.findall(r"\w+", text.casefold())) - STOP_WORDS


def word_overlap(document: str, question: str) -> float:
    """Share of the question's content words that the document contains, 0 to 1; 1 for a question without any."""
    words = content_words(question)
    return len(words & content_words(document)) / len(words) if words else 1.0


def is_relevant(document: str, question: str, threshold: float = 0.2) -> bool:
    """Whether the word overlap reaches the threshold: a lexical baseline, which misses paraphrase and ignores meaning."""
    return word_overlap(document, question) >= threshold
