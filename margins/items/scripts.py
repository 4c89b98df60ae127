"""Scripts: which characters belong to writing without spaces between words, and which leave no visible mark."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Literal

Writing = Literal["east", "southeast", "spaced", "digit"]

#: Names of characters of scripts that write no spaces: not between words, and not beside other scripts or digits either.
EAST = (
    "CJK ",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "HENTAIGANA",
    "IDEOGRAPHIC",
    "BOPOMOFO",
    "YI ",
    "TANGUT",
    "NUSHU",
)
#: Those of scripts that write none between words, but do beside other scripts and at the end of a sentence.
SOUTHEAST = ("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "JAVANESE", "BALINESE", "TAI ", "NEW TAI LUE")
_NO_TEXT = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # fillers: letters or marks without any glyph


@lru_cache(maxsize=2**14)
def name_of(character: str) -> str:
    """The character's Unicode name; empty where it has none."""
    return unicodedata.name(character, "")


@lru_cache(maxsize=2**14)
def writing_of(character: str) -> Writing | None:
    """How the script of a letter, mark or digit is written; None for punctuation, symbols and spaces.

    A digit of any script but the East Asian ones is a digit, wherever it stands.
    """
    category = unicodedata.category(character)
    if not (category[0] in "LM" or character.isnumeric()):
        return None
    name = name_of(character)
    if name.startswith(EAST) or (category == "Nd" and unicodedata.east_asian_width(character) == "F"):
        return "east"
    if category[0] == "N":
        return "digit"
    return "southeast" if name.startswith(SOUTHEAST) else "spaced"


def is_letter(character: str) -> bool:
    """Whether a character is part of a word: a letter, digit or mark (marks are vowels in many scripts)."""
    return character.isalnum() or unicodedata.category(character)[:1] == "M"


@lru_cache(maxsize=2**14)
def is_invisible(character: str) -> bool:
    """Whether a character draws nothing and is no space: zero-width, direction, soft hyphen, variation selector, filler."""
    number = ord(character)
    if 0xFE00 <= number <= 0xFE0F or 0xE0100 <= number <= 0xE01EF or 0x180B <= number <= 0x180F:  # variation selectors
        return True
    return (unicodedata.category(character) in ("Cf", "Cc") and not character.isspace()) or character in _NO_TEXT


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: only spaces and invisible characters."""
    return not text.strip() or all(c.isspace() or is_invisible(c) for c in text)


def has_unspaced(text: str) -> bool:
    """Whether a text holds a character of a script without spaces between words."""
    return not text.isascii() and any(writing_of(c) in ("east", "southeast") for c in text)
