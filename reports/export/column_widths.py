"""How wide the columns of a LaTeX table are to be: a model of text widths in Computer Modern, and the room of a page.

A column gets what its content needs; where the page has less, the widest are broken over lines, then the type gets smaller,
then the columns are divided among several tables that all begin with the first. A word that no column could hold is broken as
well, so that nothing stands out of the page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LINE = 345.0
"""\\linewidth of the article class at 10 pt, the narrowest of the common ones; widths are given as shares of \\linewidth."""
#: Advance widths of cmr10 in hundredths of a point, at 10 pt; what is not here counts as a full square.
_WIDTHS = {
    **dict.fromkeys('0123456789avngouxky$/~_\u2013"^`?', 528),
    **dict.fromkeys("ilj.,:;'|!", 306),
    **dict.fromkeys("bdhpqtrsfczeIJ()[]-", 556),
    **dict.fromkeys("ABCDEFGHKLNOPQRSTUVXYZ&=+*", 785),
    **dict.fromkeys("mw%#@<>\u2212\u00b1", 845),
    **dict.fromkeys("MW\\", 1028),
    " ": 334,
}
_SQUARE = 1100
LONG_WORD, LONGEST_PIECE = 12, 16
"""Characters: a longer word may be broken behind its hyphens, and a piece of it that is longer still anywhere."""
_INTERVAL = re.compile(r"(?<=\[)([-\u2212.\d]+,) ([-\u2212.\d]+)(?=\])")
JOINT = "\u00a0"
"""A space at which no line ends."""


@dataclass(frozen=True)
class Fitted:
    """Some columns of a table: the points of their type, and each one's share of \\linewidth, the gaps between them left out."""

    columns: tuple[int, ...]
    size: int
    shares: tuple[float, ...]


GAP = 3.0
"""\\tabcolsep in points: half of what is between two columns."""
#: Points of type, and thousandths of it in which texts are measured: small letters are wider for their size.
SIZES = {8: 8 * 1.0625, 7: 7 * 1.14}


def fitted(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Fitted]:
    """A table's columns in as few tables as hold every word of them at a size that can be read, each with its widths."""
    texts = [(title, *(row[n] for row in rows)) for n, title in enumerate(head)]
    words = [max(word_width(word) for text in cells for word in _words(text)) for cells in texts]
    # the longest pieces of any two columns fit on a line at the smaller size, so that one of these always does
    for parts in range(1, max(2, len(head))):
        groups = _groups(len(head), parts)
        for size in SIZES:
            least = [SIZES[size] / 1000 * width for width in words]
            if all(sum(least[n] for n in group) <= _room(group) for group in groups):
                return [_fit(group, size, [texts[n] for n in group], [least[n] for n in group]) for group in groups]
    raise ValueError(f"no widths for a table of {len(head)} columns that begins {head[0]!r}")


def _groups(count: int, parts: int) -> list[tuple[int, ...]]:
    """The columns in so many groups of like size, the first column in each."""
    bounds = [1 + round((count - 1) * n / parts) for n in range(parts + 1)]
    return [(0, *range(start, end)) for start, end in pairwise(bounds)]


def _room(group: Sequence[int]) -> float:
    return LINE - 2 * GAP * len(group)


def _fit(group: tuple[int, ...], size: int, texts: Sequence[Sequence[str]], least: Sequence[float]) -> Fitted:
    """Widths first for what stands in the columns, then, if there is room, for the headings."""
    widest = [[SIZES[size] / 1000 * text_width(text) for text in cells] for cells in texts]
    widths = _shared(_room(group), least, [max(least[n], *cells[1:]) for n, cells in enumerate(widest)])
    widths = _shared(_room(group), widths, [max(cells) for cells in widest])
    return Fitted(group, size, tuple(width / LINE for width in widths))


def _shared(room: float, least: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """Widths from `least` towards `wanted` within the room: narrow columns get all, the widest share what is left."""
    widths = list(least)
    spare = room - sum(widths)
    waiting = sorted((n for n in range(len(widths)) if wanted[n] > widths[n]), key=lambda n: wanted[n] - widths[n])
    while waiting:
        n, share = waiting[0], spare / len(waiting)
        given = min(wanted[n] - widths[n], share)
        widths[n] += given
        spare -= given
        waiting.pop(0)
    return widths


def text_width(text: str) -> float:
    """The width of a text on one line, in thousandths of the type's size, with a little to spare."""
    return 1.03 * sum(_WIDTHS.get(character, _SQUARE) for character in text.replace(JOINT, " ")) + 60


def word_width(word: str) -> float:
    """The width of the widest part of a word at which no line can end."""
    return max(map(text_width, pieces(word)), default=0.0)


def pieces(word: str) -> list[str]:
    """A word in the parts between which a line may end: a short one is one part."""
    if len(word) <= LONG_WORD:
        return [word]
    parts = re.findall(r"[^-/_.:]*[-/_.:]|[^-/_.:]+", word)
    return [part[n : n + LONGEST_PIECE] for part in parts for n in range(0, len(part), LONGEST_PIECE)]


def joined_intervals(text: str) -> str:
    """The text with each interval of numbers, [0.1, 0.2], as one word."""
    return _INTERVAL.sub(rf"\1{JOINT}\2", text)


def _words(text: str) -> list[str]:
    return re.split(r"[ \t\n]+", joined_intervals(text))
