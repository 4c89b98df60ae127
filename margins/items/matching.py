"""Mentions: whether a text names an answer, as whole words in one normal form. docs/answers.md states the rules."""

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
_NO_WORD_EDGES = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_IN_A_NUMBER = re.compile(r"(?<=\d)[,'\u00a0\u2009\u202f](?=\d{3}(?!\d))")


@dataclass(frozen=True, order=True)
class Mention:
    """Where a form first stands, counted in words; of two that start alike the longer is the smaller."""

    start: int
    minus_length: int


def first_mention(text: str, forms: Sequence[str], *, marks: bool = False) -> Mention | None:
    """The first place where any of the forms stands in a text as whole words; None where none does.

    `marks` tells letters with and without diacritics apart.
    """
    said = words(text, marks=marks)
    found = []
    for form in forms:
        wanted = _bare(words(form, marks=marks))
        starts = range(len(said) - len(wanted) + 1 if wanted else 0)
        hit = next((n for n in starts if said[n : n + len(wanted)] == wanted), None)
        if hit is not None:
            found.append(Mention(hit, -len(wanted)))
    return min(found, default=None)


def says(text: str, item: Item) -> bool:
    """The measure `answer`: the text names the document's answer, and the prior's no earlier."""
    doc_forms = (item.answer, *item.aliases)
    pre_forms = (item.prior_answer, *item.prior_aliases) if item.prior_answer else ()
    # answers that only a diacritic parts are told apart by it
    marks = bool({tuple(words(form)) for form in doc_forms} & {tuple(words(form)) for form in pre_forms})
    doc = first_mention(text, doc_forms, marks=marks)
    pre = first_mention(text, pre_forms, marks=marks)
    return doc is not None and (pre is None or doc < pre)


def says_substring(text: str, item: Item) -> bool:
    """The measure `answer_substring`, the paper's rule: the document's answer is a substring, whatever else is said."""
    return item.answer.strip().casefold() in text.casefold()


def words(text: str, *, marks: bool = False) -> list[str]:
    """A text's words in one normal form; numbers as digits, a character a word in scripts without word edges."""
    text = _IN_A_NUMBER.sub("", text)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if not marks:
        text = _without_marks(text)
    return _numbers(_split(text))


def _split(text: str) -> list[str]:
    """Runs of letters, digits and marks; what stands between two runs parts two words.

    What tells names apart stays: + and # behind a letter (C++, C#), a minus before a number, a decimal point. Dots
    between single letters vanish, with a space behind them (U.S.A. is USA, J. R. R. is J.R.R.).
    """
    text = re.sub(r"(?<![^\W\d_])([^\W\d_])\.(?:(?=[^\W\d_](?:\W|$))| (?=[^\W\d_]\.))", r"\1", text)
    found: list[str] = []
    run = ""
    for n, c in enumerate(text):
        before, after = text[n - 1 : n] if n else "", text[n + 1 : n + 2]
        word = c.isalnum() or unicodedata.category(c).startswith("M") or (c in "+#" and run and not before.isdigit())
        point = c == "." and before.isdigit() and after.isdigit()
        if _edgeless(c):
            found += [run, c]
            run = ""
        elif word or point:
            run += c
        else:
            found.append(run)
            run = "-" if c in "-\u2212" and after.isdigit() and not before.isalnum() else ""
    return [run for run in [*found, run] if run]


def _numbers(run: list[str]) -> list[str]:
    """Numbers written one way: 7 for seven, 21 for twenty-one, 2000000 for two million, 3.5 for 3.50.

    A lone "one" stays a word, since it is mostly a pronoun.
    """
    found: list[str] = []
    n = 0
    while n < len(run):
        value, used = _value(run, n)
        while value is not None and n + used < len(run) and run[n + used] in SCALES:
            value, used = value * SCALES[run[n + used]], used + 1
        if value is None or (run[n] == "one" and used == 1):
            found.append(run[n])
        else:
            digits = f"{value:f}"  # Decimal.normalize would round at 28 digits
            found.append(digits.rstrip("0").rstrip(".") if "." in digits else digits)
        n += used
    return found


def _value(run: list[str], n: int) -> tuple[Decimal | None, int]:
    """The number that starts at a word and how many words it takes; leading zeros (007) make a name, not a number."""
    word, following = run[n], run[n + 1] if n + 1 < len(run) else ""
    if word in TENS:
        unit = NUMBERS.get(following, 0)
        return Decimal(TENS[word] + (unit if unit < 10 else 0)), 2 if 0 < unit < 10 else 1
    if word in NUMBERS:
        return Decimal(NUMBERS[word]), 1
    if _NUMBER.fullmatch(word) and not re.match(r"-?0\d", word):
        return Decimal(word), 1
    return None, 1


def _bare(form: list[str]) -> list[str]:
    """A form without its article, where enough is left of it to be told from a common word."""
    left = form[1:] if form[:1] and form[0] in ARTICLES else form
    return left if sum(map(len, left)) >= LETTERS_BESIDE_AN_ARTICLE else form


def _without_marks(text: str) -> str:
    """Latin and Greek letters without their diacritics; in other scripts a mark is a sound of its own."""
    kept, base = [], ""
    for c in unicodedata.normalize("NFD", text):
        if not unicodedata.combining(c):
            base = unicodedata.name(c, "")
        elif base.startswith(("LATIN", "GREEK")):
            continue
        kept.append(c)
    return unicodedata.normalize("NFC", "".join(kept))


def _edgeless(character: str) -> bool:
    """Whether the character's script parts words with no spaces, or hangs particles onto them as Korean does."""
    return unicodedata.name(character, "").startswith(_NO_WORD_EDGES)
