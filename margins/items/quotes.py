"""Quotes and brackets: whether a text ends in one that opens, so that what follows stands directly behind it."""

from __future__ import annotations

import re
import unicodedata

from override_gap.margins.items.scripts import is_letter, writing_of

#: Marks that close in one language what they open in another, with the marks that they close.
_CLOSES = {
    "\u201c": "\u201e\u201f",  # “ closes „ in German
    "\u2018": "\u201a\u201b",  # ‘ closes ‚
    "\u201d": "\u201c\u201e",  # ” closes “ and „; it opens in Swedish
    "\u2019": "\u2018\u201a",  # ’ closes ‘; it is an apostrophe, too
    "\u00ab": "\u00bb",  # « closes » in German
    "\u00bb": "\u00ab",  # » closes « in French, with a space before it
    "\u2039": "\u203a",
    "\u203a": "\u2039",
}
_OPENING_TAG = re.compile(r"<[A-Za-z][^<>]*(?<!/)>$")
_PARTNERS = {")": "(", "]": "[", "}": "{", "\uff09": "\uff08"}


def opens(text: str) -> bool:
    """Whether the text ends in an opening quote, bracket, tag, or ¿ or ¡.

    A mark that can open or close opens if none of its kind is open and no word stands directly before it. Of ASCII
    quotes, which look alike, every other one opens.
    """
    last, previous = text[-1], text[-2:-1]
    free = not previous or not is_letter(previous) or writing_of(previous) in ("east", "southeast")
    if last in '"`':
        return free and text.count(last) % 2 == 1
    if last == "'":
        # an apostrophe within a word is none of a pair
        pairs = (
            len(re.findall(r"(?<![^\W_])'|'(?![^\W_])", text))
            if writing_of(previous or " ") != "east"
            else text.count("'")
        )
        return free and pairs % 2 == 1
    if last in _CLOSES:
        opened = sum(map(text[:-1].count, _CLOSES[last]))
        closed = text[:-1].count(last)
        return opened <= closed and (free or last == "\u201c")
    if last in "*_~":  # bold or italic type, unless it is a sign between numbers
        run = len(text) - len(text.rstrip(last))
        before = text[:-run]
        return run > 1 and (not before or before[-1].isspace()) and not before.rstrip()[-1:].isdecimal() and last == "*"
    return last in "\u00bf\u00a1" or unicodedata.category(last) in ("Ps", "Pi") or _OPENING_TAG.search(text) is not None


def closes_quote(text: str) -> bool:
    """Whether the apostrophe that the text ends in closes a quote, so that it is no elision."""
    before = text[:-1]
    if text[-1] == "'":
        opened, closed = re.findall(r"(?<![^\W_])'(?=\S)", before), re.findall(r"(?<=[^\W_])'(?![^\W_])", before)
        return len(opened) > len(closed)
    return sum(map(before.count, "\u2018\u201a")) > len(re.findall("\u2019(?![^\\W_])", before))


def closes_bracket(text: str, mark: str) -> bool:
    """Whether a mark closes a bracket or quote that the text leaves open."""
    if mark == '"':
        return text.count(mark) % 2 == 1
    if mark in _PARTNERS:
        return text.count(_PARTNERS[mark]) > text.count(mark)
    opened = sum(map(text.count, _CLOSES.get(mark, "")))
    return opened > text.count(mark)
