"""Matching: whether a text names an answer, as whole words in one normal form. docs/answers.md states the rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from override_gap.margins.items.item import Item

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
NUMBERS = {word: n for n, word in enumerate([*_UNITS, "seventeen", "eighteen", "nineteen"])}
TENS = {word: 10 * n for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
ARTICLES = ("the", "a", "an")
LETTERS_BESIDE_AN_ARTICLE = 4
_SCRIPTS_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_IN_A_NUMBER = re.compile(r"(?<=\d)[,'\u00a0\u2009\u202f](?=\d{3}(?!\d))")


@dataclass(frozen=True, order=True)
class Mention:
    """Where a text names an answer, counted in words. Sorted by start; of two with one start the longer comes first."""

    start: int
    minus_length: int


def first_mention(text: str, forms: Sequence[str], *, marks: bool = False) -> Mention | None:
    """The first mention of any of the forms in a text, as whole words; None where there is none.

    `marks` distinguishes letters with and without diacritics.
    """
    text_words = words(text, marks=marks)
    mentions = []
    for form in forms:
        form_words = _without_article(words(form, marks=marks))
        length = len(form_words)
        starts = range(len(text_words) - length + 1 if form_words else 0)
        start = next((n for n in starts if text_words[n : n + length] == form_words), None)
        if start is not None:
            mentions.append(Mention(start, -length))
    return min(mentions, default=None)


def says(text: str, item: Item) -> bool:
    """The measure `answer`: the text names the document's answer, and the old answer no earlier."""
    doc_forms = (item.answer, *item.aliases)
    pre_forms = (item.prior_answer, *item.prior_aliases) if item.prior_answer else ()
    # diacritics count where the two answers differ by nothing else
    marks = bool({tuple(words(form)) for form in doc_forms} & {tuple(words(form)) for form in pre_forms})
    doc = first_mention(text, doc_forms, marks=marks)
    pre = first_mention(text, pre_forms, marks=marks)
    return doc is not None and (pre is None or doc < pre)


def says_substring(text: str, item: Item) -> bool:
    """The measure `answer_substring`, the paper's rule: the text contains the document's answer anywhere."""
    return item.answer.strip().casefold() in text.casefold()


def words(text: str, *, marks: bool = False) -> list[str]:
    """A text's words in one normal form: numbers as digits; one word per character in scripts without spaces."""
    text = _IN_A_NUMBER.sub("", text)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if not marks:
        text = _without_marks(text)
    return _numbers_as_digits(_split(text))


def _split(text: str) -> list[str]:
    """Runs of letters, digits and marks; everything else separates words.

    Kept, since names or numbers differ by them: + and # after a letter (C++, C#), a minus before a number, a decimal
    point. Dots between single letters are dropped, with a space after them (U.S.A. is USA, J. R. R. is J.R.R.).
    """
    text = re.sub(r"(?<![^\W\d_])([^\W\d_])\.(?:(?=[^\W\d_](?:\W|$))| (?=[^\W\d_]\.))", r"\1", text)
    runs: list[str] = []
    run = ""
    for n, c in enumerate(text):
        before, after = text[n - 1 : n] if n else "", text[n + 1 : n + 2]
        word = c.isalnum() or unicodedata.category(c).startswith("M") or (c in "+#" and run and not before.isdigit())
        point = c == "." and before.isdigit() and after.isdigit()
        if _written_without_spaces(c):
            runs += [run, c]
            run = ""
        elif word or point:
            run += c
        else:
            runs.append(run)
            run = "-" if c in "-\u2212" and after.isdigit() and not before.isalnum() else ""
    return [run for run in [*runs, run] if run]


def _numbers_as_digits(tokens: list[str]) -> list[str]:
    """Words with their numbers as digits: 7 for seven, 21 for twenty-one, 2000000 for two million, 3.5 for 3.50.

    A lone "one" stays a word, since it is mostly a pronoun.
    """
    normal: list[str] = []
    n = 0
    while n < len(tokens):
        value, used = _value(tokens, n)
        while value is not None and n + used < len(tokens) and tokens[n + used] in SCALES:
            value, used = value * SCALES[tokens[n + used]], used + 1
        if value is None or (tokens[n] == "one" and used == 1):
            normal.append(tokens[n])
        else:
            digits = f"{value:f}"  # Decimal.normalize would round at 28 digits
            normal.append(digits.rstrip("0").rstrip(".") if "." in digits else digits)
        n += used
    return normal


def _value(tokens: list[str], n: int) -> tuple[Decimal | None, int]:
    """The number that starts at word n and how many words it takes; one with leading zeros (007) is a name instead."""
    word, following = tokens[n], tokens[n + 1] if n + 1 < len(tokens) else ""
    if word in TENS:
        unit = NUMBERS.get(following, 0)
        return Decimal(TENS[word] + (unit if unit < 10 else 0)), 2 if 0 < unit < 10 else 1
    if word in NUMBERS:
        return Decimal(NUMBERS[word]), 1
    if _NUMBER.fullmatch(word) and not re.match(r"-?0\d", word):
        return Decimal(word), 1
    return None, 1


def _without_article(form: list[str]) -> list[str]:
    """A form's words without its article, unless what is left is so short that it could be a common word."""
    rest = form[1:] if form[:1] and form[0] in ARTICLES else form
    return rest if sum(map(len, rest)) >= LETTERS_BESIDE_AN_ARTICLE else form


def _without_marks(text: str) -> str:
    """Latin and Greek letters without their diacritics; in other scripts a mark is a sound of its own."""
    characters, base = [], ""
    for c in unicodedata.normalize("NFD", text):
        if not unicodedata.combining(c):
            base = unicodedata.name(c, "")
        elif base.startswith(("LATIN", "GREEK")):
            continue
        characters.append(c)
    return unicodedata.normalize("NFC", "".join(characters))


def _written_without_spaces(character: str) -> bool:
    """Whether the character's script has no spaces between words, or attaches particles to words as Korean does."""
    return unicodedata.name(character, "").startswith(_SCRIPTS_WITHOUT_SPACES)
