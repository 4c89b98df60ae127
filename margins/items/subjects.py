"""Subjects: where a text names one thing, as a word of its own, in scripts with and without spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from override_gap.margins.items.scripts import is_letter, name_of, writing_of
from override_gap.margins.items.stop_words import KOREAN

_KOREAN_PARTICLE = re.compile(f"(?:{'|'.join(KOREAN)})*")


def mention_end(text: str, names: Sequence[str]) -> int | None:
    """Where the first mention of the first name that the text holds ends, in characters; None where it holds none.

    A name is not looked for within another word. Scripts without spaces have no border to look for; Korean attaches
    particles behind a name, and where every mention has more than particles behind it the first of them counts.
    Letters and accents apart or in one character are the same.
    """
    for name in names:
        for spelling in dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))):
            mentions = re.finditer(re.escape(spelling), text) if spelling.strip() else ()
            ends = [m.end() for m in mentions if _begins(text, m.start()) and _ends(text, m.end())]
            if ends:
                return next((end for end in ends if _before_particles(text, end)), ends[0])
    return None


def _begins(text: str, at: int) -> bool:
    """Whether a word may begin here: no letter of a script with spaces stands before it."""
    return (
        at == 0
        or not (is_letter(text[at - 1]) or text[at - 1] == "_")
        or _unspaced(text[at - 1])
        or _unspaced(text[at])
    )


def _ends(text: str, at: int) -> bool:
    """Whether a word may end here: a mark never stands apart from its letter, and Korean goes on with particles."""
    if at == len(text) or not (is_letter(text[at]) or text[at] == "_"):
        return True
    if unicodedata.category(text[at])[0] == "M":
        return False
    return _unspaced(text[at - 1]) or _unspaced(text[at]) or name_of(text[at]).startswith("HANGUL")


def _before_particles(text: str, at: int) -> bool:
    rest = re.match(r"\w*", text[at:])
    word = rest[0] if rest else ""
    return not word or not name_of(word[0]).startswith("HANGUL") or _KOREAN_PARTICLE.fullmatch(word) is not None


def _unspaced(character: str) -> bool:
    return writing_of(character) in ("east", "southeast")
