"""What a linter of question files asks of texts: words, whole-word mention, shared wording, sentences."""

from __future__ import annotations

import re


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def holds(text: str, answer: str) -> bool:
    """Whether the answer stands in the text as whole words, or inside a word if it has four letters or more."""
    if len(answer) >= 4 and answer.casefold() in text.casefold():
        return True
    return f" {' '.join(words(answer))} " in f" {' '.join(words(text))} "


def shared_run(one: str, other: str) -> int:
    """Length in words of the longest run of words that two texts share."""
    a, b = words(one), " " + " ".join(words(other)) + " "
    runs = (j - i for i in range(len(a)) for j in range(i + 1, len(a) + 1) if f" {' '.join(a[i:j])} " in b)
    return max(runs, default=0)


def n_sentences(text: str) -> int:
    """Sentences by their end marks; a single capital before a full stop is an initial, not an end."""
    return len(re.findall(r"[.!?](?= |$)", re.sub(r"\b[A-Z]\.", "", text)))
