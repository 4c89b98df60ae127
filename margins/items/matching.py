"""Matching: whether a text names an answer, as whole words in one normal form. docs/answers.md states the rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from override_gap.margins.items.item import Item
from override_gap.margins.items.normal_form import Part, parts, words
from override_gap.margins.items.scripts import is_letter, writing_of

ARTICLES = ("the", "a", "an")
LETTERS_BESIDE_AN_ARTICLE = 4
# particles of one letter, alone or behind one another, that Arabic and Hebrew write together with the next word
_PARTICLES = re.compile("[\u0648\u0641]?[\u0628\u0643\u0644]?|\u05d5?[\u05e9\u05db]?[\u05d4\u05d1\u05db\u05dc\u05de]?")
LETTERS_BESIDE_A_PARTICLE = 3
_ENDS_SENTENCES = frozenset(".,;:!?\u3002\u3001\u060c\u061b\u061f\u06d4\u0964\u104b\u104a\u17d4")


@dataclass(frozen=True, order=True)
class Mention:
    """Where a text names an answer, counted in words. Sorted by start; of two with one start the longer comes first.

    Signs count as words if any of the forms that are looked for has signs alone, or differs from a rival by signs alone.
    """

    start: int
    minus_length: int


@dataclass(frozen=True)
class Form:
    """An accepted form of an answer in normal form: its words, or with `signs` its words and signs."""

    text: tuple[str, ...]
    signs: bool = False


def first_mention(text: str, forms: Sequence[str], *, marks: bool = False) -> Mention | None:
    """The first mention of any of the forms in a text, as whole words; None where there is none.

    A form without any letter or digit is looked for as its signs. `marks` distinguishes letters with and without the
    marks that writers leave out.
    """
    return _first(text, [_form(form, marks) for form in forms], marks)


def says(text: str, item: Item) -> bool:
    """The measure `answer`: the text names the document's answer, and the old answer no earlier."""
    doc_forms, pre_forms, marks = _forms(item)
    if any(form.signs for form in (*doc_forms, *pre_forms)):
        positions = parts(text, marks=marks)
        doc, pre = (_first_part(positions, forms) for forms in (doc_forms, pre_forms))
    else:
        doc, pre = (_first(text, forms, marks) for forms in (doc_forms, pre_forms))
    return doc is not None and (pre is None or doc < pre)


def says_substring(text: str, item: Item) -> bool:
    """The measure `answer_substring`, the paper's rule: the text contains the document's answer anywhere."""
    return item.answer.strip().casefold() in text.casefold()


def why_not_judged(item: Item) -> str | None:
    """Why no text can be judged to give the document's answer rather than the old one, or None."""
    doc_forms, pre_forms, _ = _forms(item)
    if not any(form.text for form in doc_forms):
        return f"answer {item.answer!r} has no letter, digit or sign"
    if set(doc_forms) <= set(pre_forms):
        return f"answer {item.answer!r} and prior_answer {item.prior_answer!r} are the same words"
    return None


def is_sentence_punctuation(text: str) -> bool:
    """Whether an answer is nothing but marks that end sentences or parts of them; they count only apart from words."""
    return bool(text.strip()) and set(text.strip()) <= _ENDS_SENTENCES


def _forms(item: Item) -> tuple[tuple[Form, ...], tuple[Form, ...], bool]:
    """The accepted forms of both answers, and whether optional marks count: where the two differ by nothing else."""
    doc, pre = (item.answer, *item.aliases), (item.prior_answer, *item.prior_aliases) if item.prior_answer else ()
    return _distinct_forms(doc, pre)


@lru_cache(maxsize=1024)
def _distinct_forms(doc: tuple[str, ...], pre: tuple[str, ...]) -> tuple[tuple[Form, ...], tuple[Form, ...], bool]:
    marks = not {_whole(form) for form in doc}.isdisjoint(map(_whole, pre))
    doc_forms, pre_forms = [_form(form, marks) for form in doc], [_form(form, marks) for form in pre]
    same = set(doc_forms) & set(pre_forms)
    doc_parts, pre_parts = [_in_parts(form, marks) for form in doc], [_in_parts(form, marks) for form in pre]
    rivals = set(doc_parts) & set(pre_parts)

    def final(form: Form, parts_of_form: Form) -> Form:
        # words that are the other answer's, too, are told from it by signs or an article: $5 and €5
        return parts_of_form if form in same and parts_of_form not in rivals else form

    return tuple(map(final, doc_forms, doc_parts)), tuple(map(final, pre_forms, pre_parts)), marks


def _whole(text: str) -> tuple[str, ...]:
    """A form's words, or the signs of one without any."""
    return tuple(words(text)) or _in_parts(text, False).text


@lru_cache(maxsize=4096)
def _in_parts(text: str, marks: bool) -> Form:
    in_parts = parts(text, marks=marks)
    if not all(part.is_sign for part in in_parts):  # the point after a name ends the sentence in most texts
        while in_parts[-1].is_sign and in_parts[-1].text in _ENDS_SENTENCES:
            in_parts.pop()
    return Form(tuple(part.text for part in in_parts), True)


@lru_cache(maxsize=4096)
def _form(text: str, marks: bool) -> Form:
    in_words = tuple(_without_article(words(text, marks=marks)))
    return Form(in_words) if in_words else _in_parts(text, marks)


def _first(text: str, forms: Sequence[Form], marks: bool) -> Mention | None:
    if any(form.signs and form.text for form in forms):
        return _first_part(parts(text, marks=marks), forms)
    return _first_words(words(text, marks=marks), forms)


def _first_words(text_words: Sequence[str], forms: Sequence[Form]) -> Mention | None:
    mentions = []
    for form in forms:
        length = len(form.text)
        starts = range(len(text_words) - length + 1 if form.text else 0)
        start = next((n for n in starts if _starts_with(text_words, n, form.text)), None)
        if start is not None:
            mentions.append(Mention(start, -length))
    return min(mentions, default=None)


def _starts_with(text_words: Sequence[str], n: int, form: tuple[str, ...]) -> bool:
    """Whether the form's words stand from word n on, the first perhaps with a particle written before it."""
    first, word = form[0], text_words[n]
    if word != first and not ("\u0590" <= first[0] <= "\u06ff" and _has_particle(word, first)):
        return False
    return len(form) == 1 or tuple(text_words[n + 1 : n + len(form)]) == form[1:]


def _has_particle(word: str, first: str) -> bool:
    """Whether a word is another with Arabic or Hebrew particles before it."""
    if len(first) < LETTERS_BESIDE_A_PARTICLE:
        return False
    article = "\u0627\u0644"
    if first.startswith(article) and word.endswith("\u0644\u0644" + first[2:]):  # li-l for li and al
        return word[: -len(first)] in ("", "\u0648", "\u0641")
    return word.endswith(first) and _PARTICLES.fullmatch(word[: -len(first)]) is not None


def _first_part(text: Sequence[Part], forms: Sequence[Form]) -> Mention | None:
    """The first mention where signs count: forms of words alone are looked for among the words, others among all."""
    numbers = [n for n, part in enumerate(text) if not part.is_sign]
    text_words = [text[n].text for n in numbers]
    mentions = []
    for form in forms:
        if not form.text:
            continue
        if not form.signs:
            mention = _first_words(text_words, [form])
            mentions += [] if mention is None else [Mention(numbers[mention.start], mention.minus_length)]
            continue
        length = len(form.text)
        for n in range(len(text) - length + 1):
            if tuple(part.text for part in text[n : n + length]) == form.text and _stands_alone(text[n : n + length]):
                mentions.append(Mention(n, -length))
                break
    return min(mentions, default=None)


def _stands_alone(run: Sequence[Part]) -> bool:
    """Whether signs are none of more signs of their kind (= in ==) or punctuation of a word (the point of "Lyon.").

    A mention that has a word, too, ends where the word does.
    """
    if not all(part.is_sign for part in run):
        return True
    edges = ((run[0].text[0], run[0].touches[0]), (run[-1].text[-1], run[-1].touches[1]))
    return not any(near and _belongs_to(sign, near) for sign, near in edges)


def _belongs_to(sign: str, near: str) -> bool:
    category = unicodedata.category(sign)
    if is_letter(near):
        spaced = writing_of(near) in ("spaced", "digit")
        return category[0] == "P" and (spaced or sign in _ENDS_SENTENCES)
    if category in ("So", "Sc"):
        return False
    return near == sign or unicodedata.category(near) == "Sm"


def _without_article(form: list[str]) -> list[str]:
    """A form's words without its article, unless what is left is so short that it could be a common word."""
    rest = form[1:] if form[:1] and form[0] in ARTICLES else form
    return rest if sum(map(len, rest)) >= LETTERS_BESIDE_AN_ARTICLE else form
