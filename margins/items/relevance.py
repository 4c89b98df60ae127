"""Relevance: whether a document is about a question, by shared words alone; what the relevance-gate policy depends on."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from override_gap.margins.items.normal_form import clusters
from override_gap.margins.items.optional_marks import without_optional_marks
from override_gap.margins.items.scripts import is_invisible, is_letter, name_of, writing_of
from override_gap.margins.items.stop_words import CHINESE, ENGLISH, KOREAN, LATIN, OTHER, SOUTHEAST

#: The share of a question's content words from which on a document is taken to be about it.
RELEVANT = 0.2

_ARABIC_ARTICLE = re.compile("[\u0648\u0641]?(?:\u0628\u0627\u0644|\u0643\u0627\u0644|\u0644\u0644|\u0627\u0644)")
_PARTICLE = re.compile("[\u0648\u0641\u0628\u0643\u0644\u05d5\u05d4\u05d1\u05db\u05dc\u05de\u05e9]")
LETTERS_OF_A_STEM = 3
_GRAMMAR = "".join(sorted(CHINESE)) + "\u3040-\u309f"  # hiragana: Japanese writes its grammar with it


def content_words(text: str, stop_words: frozenset[str] = ENGLISH) -> frozenset[str]:
    """What a text is about, case-folded: its words without stop words; of scripts without spaces, neighbouring characters.

    Chinese, Japanese and Korean count by pairs of characters, cut at words of grammar (Chinese), hiragana and particles;
    Thai, Lao, Khmer and Burmese by three characters with their marks.
    """
    if text.isascii():
        return frozenset(re.findall(r"\w+", text.casefold())) - stop_words
    text = unicodedata.normalize("NFC", text.casefold())
    words = [word for word in _words(text) if word not in stop_words]
    found = frozenset(unit for word in words for unit in _units(word, _GRAMMAR))
    return found or frozenset(unit for word in words for unit in _units(word, ""))


def word_overlap(document: str, question: str) -> float:
    """Share of the question's content words that the document contains, 0 to 1; 1 for a question without any."""
    stop_words = _stop_words(f"{document} {question}")
    in_question, in_document = content_words(question, stop_words), content_words(document, stop_words)
    if not in_question:
        return 1.0
    if question.isascii():
        return len(in_question & in_document) / len(in_question)
    stems = {stem for word in in_document for stem in _stems(word)}
    return sum(not stems.isdisjoint(_stems(word)) for word in in_question) / len(in_question)


def is_relevant(document: str, question: str, threshold: float = RELEVANT) -> bool:
    """Whether the word overlap reaches the threshold: a lexical baseline, which misses paraphrase and ignores meaning."""
    return word_overlap(document, question) >= threshold


def _stop_words(text: str) -> frozenset[str]:
    """The stop words of the text's language: English unless another's are found more often, and at least twice."""
    found = set(re.findall(r"\w+", text.casefold()))  # each counts once: a name may be repeated
    counts = {name: sum(word in words and word not in ENGLISH for word in found) for name, words in LATIN.items()}
    language = max(counts, key=lambda name: counts[name])
    english = sum(word in ENGLISH for word in found)
    words = LATIN[language] if counts[language] > max(english, 1) else ENGLISH
    return words if text.isascii() else words | OTHER


def _words(text: str) -> Iterator[str]:
    """Runs of letters, digits and marks, and underscores, as the ASCII route has them."""
    run = ""
    for c in [*text, " "]:
        if is_letter(c) or c == "_":
            run += c
        elif not is_invisible(c) and run:
            yield run
            run = ""


def _units(word: str, grammar: str) -> Iterator[str]:
    """A word as it is, or cut into neighbouring characters where its script has no spaces or attaches particles."""
    kinds = {("hangul" if name_of(c).startswith("HANGUL") else writing_of(c)) for c in word}
    if "east" in kinds:
        for part in re.split(f"[{grammar}]", word) if grammar else [word]:
            yield from _neighbours([c for run in _by_kind(part) for c in run], 2)
    elif "hangul" in kinds:
        particle = next((p for p in KOREAN if word.endswith(p) and len(word) > len(p) + 1), "")
        yield from _neighbours(list(word.removesuffix(particle)), 2)
    elif "southeast" in kinds:
        for part in re.split("|".join(SOUTHEAST), word):
            yield from _neighbours(clusters(part), 3)
    elif name_of(word[0]).startswith(("LATIN", "DIGIT")):
        yield word
    else:
        yield without_optional_marks(word)


def _by_kind(text: str) -> Iterator[list[str]]:
    """Characters of East Asian scripts one by one; a run of others as one unit."""
    for run in re.findall(r"[^\W\d_a-z]|[a-z\d_]+", text):
        yield [run]


def _neighbours(units: list[str], length: int) -> Iterator[str]:
    """Every so many units behind one another as one; all of them where there are fewer."""
    if units:
        for n in range(max(1, len(units) - length + 1)):
            yield "".join(units[n : n + length])


def _stems(word: str) -> frozenset[str]:
    """A word, and in Arabic and Hebrew what is left of it without the article and a particle before it."""
    stems = {word}
    if "\u0590" <= word[0] <= "\u06ff":
        for prefix in (_ARABIC_ARTICLE.match(word), _PARTICLE.match(word)):
            if prefix and len(word) - prefix.end() >= LETTERS_OF_A_STEM:
                stems.add(word[prefix.end() :])
    return frozenset(stems)
