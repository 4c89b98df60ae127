"""Joining: whether a space stands between a question and its answer, by how texts in their scripts are written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from override_gap.margins.items.item import Item
from override_gap.margins.items.quotes import closes_bracket, closes_quote, opens
from override_gap.margins.items.scripts import is_invisible, is_letter, name_of, writing_of

_ENDS_OF_SENTENCES = re.compile(r"[.!?:;\n\u2026\u3002\uff01\uff1f\uff1a\uff1b\u0964\u061f\u06d4\u1362]")
# a word before an apostrophe that is a possessive (students', Fritz') or a dropped g (goin'), and not elided (l', d', dell')
_NOT_ELIDED = re.compile(r"(?i).+(?:[sxz\u00df]|.in)")
# words of Arabic (wa, fa, bi, li, ka, al) and Hebrew (ve, ha, be, ke, le, mi, she) that are written together with the next
_PROCLITICS = frozenset(
    "\u0648 \u0641 \u0628 \u0644 \u0643 \u0627\u0644 \u0648\u0627\u0644 \u0628\u0627\u0644 \u0644\u0644 "
    "\u05d5 \u05d4 \u05d1 \u05db \u05dc \u05de \u05e9 \u05d5\u05d4 \u05d5\u05d1".split()
)
# they end a syllable, a word or half of one without a space behind them: tatweel, Tibetan tsheg, Ethiopic word space
_SEPARATE_THEMSELVES = frozenset("\u0640\u0f0b\u0f0c\u1361")
_FOLLOWS_DIRECTLY = re.compile(  # punctuation that stands directly behind a word, before a space or at the end
    r"[.,;:!?\u2026\u060c\u061b\u061f\u06d4\u0964\u0965\u0589\u1362\u1363\u104a\u104b\u17d4\u0f0d]+[\"')\]}\u00bb\u2019\u201d]*(?:\s|$)"
)
_CLITIC = re.compile(r"(?i)['\u2019](?:s|re|ve|ll|d|m)\b(?!-)")
FULL_STOPS = (
    (("CJK ", "HIRAGANA", "KATAKANA", "BOPOMOFO", "YI "), "\u3002"),
    (("DEVANAGARI", "BENGALI", "GURMUKHI", "ORIYA"), "\u0964"),
    (("MYANMAR",), "\u104b"),
    (("KHMER",), "\u17d4"),
    (("ETHIOPIC",), "\u1362"),
    (("ARMENIAN",), "\u0589"),
    (("THAI", "LAO"), ""),
)


def joined(question: str, answer: str, *, chat: bool = False, separator: str | None = None) -> str:
    """Question and answer as the one text to tokenise, with `separator` between them, or where it is None the rule's.

    After a chat template the answer opens the assistant's turn, so nothing stands before it.
    """
    if chat:
        return question + answer
    return question + (separator_between(question, answer) if separator is None else separator) + answer


def stated_separator(item: Item) -> str | None:
    """The separator that the item itself states, of both its answers: its field, or its document where that differs
    from the rule; None where the rule holds."""
    if item.separator is not None:
        return item.separator
    written = _separator_in(item.document, item.question, item.answer)
    return None if written == separator_between(item.question, item.answer) else written


def with_separator(item: Item) -> Item:
    """The item with what its document shows of the separator as its field, so that its question can be replaced."""
    stated = stated_separator(item)
    return item if stated == item.separator else replace(item, separator=stated)


def separator_of(item: Item, answer: str | None = None) -> str:
    """What stands between the item's question and an answer, by default the document's: "" or " "."""
    stated = stated_separator(item)
    return separator_between(item.question, item.answer if answer is None else answer) if stated is None else stated


def full_stop(text: str) -> str:
    """The full stop of the script of the text's last letter; none in Thai and Lao, which end a sentence with a space."""
    last = next((name_of(c) for c in reversed(text) if is_letter(c)), "")
    return next((stop for scripts, stop in FULL_STOPS if last.startswith(scripts)), ".")


def sentence(question: str, answer: str) -> str:
    """An unfinished sentence with its end, joined and closed as its script is written."""
    return f"{joined(question, answer)}{full_stop(question)}"


def as_text_of(sentences: Iterable[str]) -> str:
    """Sentences behind one another as one text."""
    parts = list(sentences)
    return "".join(part + (between_sentences(part) if n + 1 < len(parts) else "") for n, part in enumerate(parts))


def between_sentences(text: str) -> str:
    """What stands between this text and another sentence behind it: nothing in East Asian writing, else a space."""
    last = next((c for c in reversed(text) if writing_of(c) or _is_wide(c)), " ")
    return "" if _is_wide(last) or writing_of(last) == "east" else " "


def separator_between(question: str, answer: str) -> str:
    """A space or nothing, as the scripts of the question's end and of the answer's beginning are written.

    docs/answers.md states the rules. A text that has its own white space there gets no other.
    """
    before, after = _without_direction_marks(question, -1), _without_direction_marks(answer, 0)
    if not before or not after:
        return ""
    last, first = before[-1], after[0]
    if last.isspace() or first.isspace() or is_invisible(last) or last in _SEPARATE_THEMSELVES:
        return ""
    if unicodedata.category(first)[0] == "M" or _is_wide(first):
        return ""
    if _is_wide(last) and (unicodedata.category(last) != "Pe" or _is_east_asian_sentence(before)):
        return ""
    if opens(before) or _is_part_of_a_word(before, after) or _is_prefix(before, after) or _attaches(before, after):
        return ""
    return _between_scripts(before, after)


def _separator_in(document: str, question: str, answer: str) -> str | None:
    """How the document joins them, where it has them behind one another; None where it does not, or does both ways.

    In scripts without spaces a space counts only if the question has one between two of its own characters, too: a
    document that was put together from question and answer by a program shows how the program joins, not how texts do.
    """
    if not question or not answer or question[-1].isspace() or answer[0].isspace():
        return None
    direct, spaced = (_has_whole(document, question + between + answer) for between in ("", " "))
    if direct == spaced:
        return None
    end = writing_of(question[-1])
    if spaced and end in ("east", "southeast") and writing_of(answer[0]) == end:
        own = any(
            c == " " and writing_of(a) == writing_of(b) == end
            for a, c, b in zip(question, question[1:], question[2:], strict=False)
        )
        return " " if own else None
    return "" if direct else " "


def _has_whole(document: str, text: str) -> bool:
    """Whether the document has the text with no further letter, digit or underscore behind it: the pattern `text(?!\\w)`.

    Searched as text: every item has another one, and compiling a pattern for each took a thirtieth of an audit.
    """
    at = document.find(text)
    while at >= 0:
        following = document[at + len(text) : at + len(text) + 1]
        if not (following.isalnum() or following == "_"):
            return True
        at = document.find(text, at + 1)
    return False


def _without_direction_marks(text: str, end: int) -> str:
    """The text without marks of the writing direction at one end, which stand where no reader sees them."""
    marks = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return text.rstrip(marks) if end else text.lstrip(marks)


def _is_wide(character: str) -> bool:
    """Punctuation as wide as an ideograph has its space within: 。「」？（."""
    return unicodedata.category(character)[0] == "P" and (
        unicodedata.east_asian_width(character) == "F"
        or "\u3000" < character <= "\u303f"
        or character in "\u30fb\u30a0"
    )


def _is_part_of_a_word(before: str, after: str) -> bool:
    """Whether the question ends in a part of a word: after an elision (l'), a hyphen, or a particle written with the next."""
    last, previous = before[-1], before[-2:-1]
    if last in "'\u2019\u02bc" and previous.isalpha() and name_of(previous).startswith("LATIN"):
        word = re.search(r"[^\W\d_]+$", before[:-1])
        return word is not None and not _NOT_ELIDED.fullmatch(word[0]) and not closes_quote(before)
    if unicodedata.category(last) in ("Pd", "Pc") or last == "/":
        return bool(previous) and is_letter(previous)
    word = before.split()[-1] if before.split() else ""
    return word in _PROCLITICS and name_of(word[-1])[:6] == name_of(after[0])[:6]


def _is_prefix(before: str, after: str) -> bool:
    """Whether the question ends in a sign that is written together with what follows: $5, -5, @name, x=5."""
    last, previous = before[-1], before[-2:-1]
    free = not previous or previous.isspace() or unicodedata.category(previous) in ("Ps", "Pi")
    if last == "=":
        return not free
    if last in "@#":
        return free and bool(previous) and is_letter(after[0])
    if not after[0].isdecimal():
        return False
    return (unicodedata.category(last) == "Sc" and not previous.isdecimal()) or (last in "-\u2212+\u00b1~" and free)


def _attaches(before: str, after: str) -> bool:
    """Whether the answer begins with what is written together with the word before it: a comma, 's, a closing bracket, %."""
    if after[0] in "%\u2030\u066a\u00b0":
        return before[-1].isdecimal()
    if _CLITIC.match(after):
        return is_letter(before[-1])
    return _FOLLOWS_DIRECTLY.match(after) is not None or closes_bracket(before, after[0])


def _between_scripts(before: str, after: str) -> str:
    """The separator between two characters of which neither joins by itself, by how their scripts are written."""
    last = next((n for n in range(len(before) - 1, -1, -1) if writing_of(before[n])), None)
    first = next((c for c in after if writing_of(c)), None)
    if last is None:
        return " "
    left, right = writing_of(before[last]), writing_of(first) if first else None
    punctuation = before[last + 1 :].strip(
        "\"'\u2019\u201d)]"
    )  # behind the last letter: no closing mark ends a sentence
    if left == right == "east":
        return ""
    if "east" in (left, right):
        return "" if _is_east_asian_sentence(before) and not (punctuation and right != "east") else " "
    if left == "southeast" and first and not punctuation:
        same = name_of(first).split(" ")[0] == name_of(before[last]).split(" ")[0]
        # Thai and Lao put spaces around numbers, Khmer and Burmese do not around their own digits
        numbers = name_of(before[last]).startswith(("KHMER", "MYANMAR"))
        return "" if same and (right == "southeast" or numbers) else " "
    return " "


def _is_east_asian_sentence(before: str) -> bool:
    """Whether the last sentence is written without spaces: it has more East Asian characters than words of other scripts,
    or a Latin word or number with an East Asian character directly behind it at its end (Apple的CEO是)."""
    sentence = next((part for part in reversed(_ENDS_OF_SENTENCES.split(before)) if part.strip()), "")
    kinds = [writing_of(c) for c in re.sub(r"\([^()]*\)$", "", sentence)]  # Tokyo (東京): a note, not the sentence
    other = sum(
        kind not in (None, "east") and (n == 0 or kinds[n - 1] in (None, "east")) for n, kind in enumerate(kinds)
    )
    attached = any(a not in (None, "east") and b == "east" for a, b in pairwise(kinds))
    return kinds.count("east") > other or (attached and kinds[-1] == "east")
