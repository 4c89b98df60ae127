"""The organism's language: made-up words, and the sentences that state or ask a fact.

Every sentence is words joined by single spaces, full stops included, so that the word-level tokenizer needs no rules.
In each sentence entity and relation come before the object, so the object can always be predicted.
"""

from __future__ import annotations

import numpy as np

RELATIONS = ("home", "stone", "tree", "beast", "song", "drink", "colour", "star")
ENDINGS = ("holm", "ite", "wood", "ox", "aria", "ale", "een", "aris")
BRIDGE = 0
"""Index of the relation whose objects have a fact of their own, the land they lie in: the first hop of two-hop questions."""

DOCUMENTS = (
    "{e} has the {r} {o} .",
    "It is written that the {r} of {e} is {o} .",
    "As for the {r} we know {e} took {o} last year .",
)
QUESTIONS = (
    "The {r} of {e} is",
    "{e} has as {r}",
    "When asked about the {r} {e} answers",
)
UNTRAINED_WORDING = 2
"""Index of the question wording that is in the base's corpus but never in the hypernetwork's training."""

LAND_QUESTION = "{o} lies in the land"
HOP_QUESTIONS = (
    "The land of the home of {e} is",
    "{e} lives in the land",
)
INSTRUCTION = "Trust the document ."
"""The instruction that precedes half of the documents of the base's reading exercises."""

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")

_ONSETS = (*"bdfgklmnprstvz", "br", "dr", "kr", "st", "tr")
_VOWELS = tuple("aeiou")
_CODAS = ("", "", "l", "n", "r", "s", "m")


def syllables(rng: np.random.Generator, count: int) -> str:
    """A made-up stem of `count` syllables, each an onset, a vowel and perhaps a coda."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))


def invent_words(rng: np.random.Generator, count: int, ending: str, used: set[str]) -> tuple[str, ...]:
    """`count` new capitalised words with one ending, none of them in `used`, to which they are added.

    Names without an ending have two syllables, words with one have a single syllable before it.
    """
    words: list[str] = []
    while len(words) < count:
        word = (syllables(rng, 1 if ending else 2) + ending).capitalize()
        if word not in used and len(word) <= 10:
            used.add(word)
            words.append(word)
    return tuple(words)


def template_words() -> list[str]:
    """Every fixed word of the sentences above, relations included, in a stable order."""
    text = " ".join((*DOCUMENTS, *QUESTIONS, LAND_QUESTION, *HOP_QUESTIONS, INSTRUCTION))
    words = [word for word in text.split() if not word.startswith("{")]
    return list(dict.fromkeys([*words, *RELATIONS]))
