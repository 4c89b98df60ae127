"""Marks and letters that the writers of a script leave out or replace at will, so that texts match with and without them."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from override_gap.margins.items.scripts import name_of

# letters that are ligatures or have two letters in other spelling: what a keyboard without them writes
_LIGATURES = {
    "\u00e6": "ae",
    "\u0153": "oe",
    "\u00fe": "th",
    "\u00f0": "d",
    "\u0131": "i",
    "\u0237": "j",
    "\u00df": "ss",
}
_LETTER_WITH = re.compile(r"LATIN SMALL LETTER (?:DOTLESS )?([A-Z]{1,2}) WITH ")
# Arabic alef wasla; yeh and kaf as Persian and Egyptian keyboards write them; teh marbuta without dots, and Urdu's heh
_ARABIC = {"\u0671": "\u0627", "\u06cc": "\u064a", "\u0649": "\u064a", "\u06a9": "\u0643"} | dict.fromkeys(
    "\u0629\u06c1\u06c3", "\u0647"
)
# modifier letters that stand for an apostrophe in transliterations: Hawaii for Hawaiʻi
_APOSTROPHES = frozenset("\u02b9\u02ba\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\u02ee")
_SKIN_TONES = frozenset("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
_TATWEEL = "\u0640"
_HAMZA_AND_MADDA = frozenset("\u0653\u0654\u0655")
_NUKTA = "\u093c"
_NUKTA_OF_LOAN_SOUNDS = frozenset("\u0915\u0916\u0917\u091c\u092b")  # ka, kha, ga, ja, pha: not the nukta of ra
_CYRILLIC_VOWELS = frozenset("\u0430\u0435\u0438\u043e\u0443\u044b\u044d\u044e\u044f\u0456\u0454")


def without_optional_marks(text: str) -> str:
    """A folded text without the marks that its scripts' writers leave out; docs/answers.md lists them, rule 2."""
    if text.isascii():
        return text
    characters, base = [], ""
    for c in unicodedata.normalize("NFD", text):
        if unicodedata.category(c)[0] != "M":
            base = c
            characters.append(_plain(c))
        elif not _is_optional(c, base):
            characters.append(c)
    return unicodedata.normalize("NFC", "".join(characters)).replace("l\u00b7l", "ll")  # Catalan


@lru_cache(maxsize=2**14)
def _plain(character: str) -> str:
    """A letter without what is a part of it in Unicode, though its writers leave it out: l for ł, d for đ, i for ı."""
    if character in _LIGATURES or character in _ARABIC:
        return _LIGATURES.get(character) or _ARABIC[character]
    if character in _APOSTROPHES or character in _SKIN_TONES or character == _TATWEEL:
        return ""
    letter = _LETTER_WITH.match(name_of(character))
    return letter[1].lower() if letter else character


@lru_cache(maxsize=2**14)
def _is_optional(mark: str, base: str) -> bool:
    """Whether a combining mark on a base character is one that writers leave out."""
    script = name_of(base) if base else ""
    if script.startswith(("LATIN", "GREEK", "HEBREW", "DIGIT")):
        return True
    if script.startswith("ARABIC"):
        return mark not in _HAMZA_AND_MADDA or base == "\u0627"
    if base in _CYRILLIC_VOWELS:  # a stress, and the dots of ё; those of ї are a letter's
        return mark in "\u0300\u0301" or (mark == "\u0308" and base == "\u0435")
    return mark == _NUKTA and base in _NUKTA_OF_LOAN_SOUNDS
