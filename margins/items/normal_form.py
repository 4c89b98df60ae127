"""Normal form: a text as words, so that spellings of one name or number are equal. docs/answers.md states the rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from override_gap.margins.items.numbers import numbers_as_digits, numerals_as_digits, without_separators
from override_gap.margins.items.optional_marks import without_optional_marks
from override_gap.margins.items.scripts import is_invisible, is_letter, name_of, writing_of

_DOTS_OF_INITIALS = re.compile(r"(?<![^\W\d_])([^\W\d_])\.(?:(?=[^\W\d_](?:\W|$))| (?=[^\W\d_]\.))")
_JOINER = "\u200d"
_TAGS = range(0xE0020, 0xE0080)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)


@dataclass(frozen=True)
class Part:
    """A word of a text in normal form, or a sign: one that is neither a letter, digit or mark nor a space.

    `touches` are the characters that stand directly before and after a sign, empty where there is a space.
    """

    text: str
    is_sign: bool = False
    touches: tuple[str, str] = ("", "")


def words(text: str, *, marks: bool = False) -> list[str]:
    """A text's words in one normal form: numbers as digits; one word per character in scripts without spaces.

    `marks` keeps the marks that writers leave out, such as diacritics.
    """
    return numbers_as_digits([part.text for part in _split(_folded(text, marks)) if not part.is_sign])


def parts(text: str, *, marks: bool = False) -> list[Part]:
    """A text's words and signs in order, the words as `words` gives them."""
    all_parts: list[Part] = []
    run: list[str] = []
    for part in [*_split(_folded(text, marks)), None]:
        if part is not None and not part.is_sign:
            run.append(part.text)
            continue
        all_parts += map(Part, numbers_as_digits(run))
        run = []
        if part is not None:
            all_parts.append(part)
    return all_parts


def _folded(text: str, marks: bool) -> str:
    text = without_separators(text)
    if text.isascii():
        return text.casefold()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace("i\u0307", "i")
    text = numerals_as_digits("".join(_visible(text)))
    return text if marks else without_optional_marks(text)


def _visible(text: str) -> Iterator[str]:
    """The characters that show, digits of every script as ASCII; a joiner stays within an emoji."""
    for n, c in enumerate(text):
        if c.isascii():
            yield c
        elif c == "\u200b":  # the zero-width space parts words
            yield " "
        elif c == _JOINER:
            if text[n + 1 : n + 2] and unicodedata.category(text[n + 1])[0] == "S":
                yield c
        elif ord(c) in _TAGS or not is_invisible(c):
            yield str(unicodedata.decimal(c, c))


def _split(text: str) -> list[Part]:
    """Runs of letters, digits and marks are words; every other character but a space is a sign.

    Within words are kept, since names or numbers differ by them: + and # after a letter (C++, C#), a minus before a
    number, a decimal point. Dots between single letters are dropped, with a space after them (U.S.A. is USA, J. R. R. is J.R.R.).
    """
    text = _DOTS_OF_INITIALS.sub(r"\1", text)
    split: list[Part] = []
    run, alone = "", False  # alone: the run is one character of a script without spaces
    n = 0
    while n < len(text):
        c = text[n]
        before, after = text[n - 1 : n] if n else "", text[n + 1 : n + 2]
        letter = is_letter(c)
        if letter and _is_a_word(c):
            if run:
                split.append(Part(run))
            run, alone = c, True
        elif (
            (letter and not (alone and c.isalnum()))
            or (c in "+#" and run and not alone and not before.isdigit())
            or (c == "." and before.isdigit() and after.isdigit())
        ):  # a mark belongs to the character before it
            run += c
        else:
            if run:
                split.append(Part(run))
            run, alone = "", False
            if letter:
                run = c
            elif c in "-\u2212" and after.isdigit() and not before.isalnum():
                run = "-"
            elif not c.isspace():
                end = _end_of_sign(text, n)
                near = (before.strip(), text[end : end + 1].strip())
                split.append(Part(_sign(text[n:end]), True, near))
                n = end - 1
        n += 1
    return [*split, Part(run)] if run else split


def clusters(text: str) -> list[str]:
    """A text's characters, each with the marks behind it."""
    found: list[str] = []
    for c in text:
        if found and unicodedata.category(c)[0] == "M":
            found[-1] += c
        else:
            found.append(c)
    return found


def _sign(text: str) -> str:
    return {"\u2212": "-", "\u2010": "-"}.get(text, text)


def _end_of_sign(text: str, start: int) -> int:
    """Where the sign at `start` ends: an emoji of several characters is one sign."""
    end = start + 1
    if ord(text[start]) in _FLAG_LETTERS and end < len(text) and ord(text[end]) in _FLAG_LETTERS:
        return end + 1
    while end < len(text):
        if ord(text[end]) in _SKIN_TONES or ord(text[end]) in _TAGS:
            end += 1
        elif text[end] == _JOINER and end + 1 < len(text):
            end += 2
        else:
            break
    return end


@lru_cache(maxsize=2**14)
def _is_a_word(character: str) -> bool:
    """Whether a character counts as a word: its script has no spaces between words, or attaches particles to words as
    Korean does. Tibetan separates syllables by a sign of its own."""
    if not character.isalnum():
        return False
    name = name_of(character)
    return name.startswith("HANGUL") or (
        writing_of(character) in ("east", "southeast") and not name.startswith("TIBETAN")
    )
