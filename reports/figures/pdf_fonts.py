"""Fonts within PDF files: of a font only the tables that a PDF needs are embedded, which takes a sixth of the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NEEDED = frozenset(("head", "hhea", "hmtx", "loca", "maxp", "glyf", "cvt ", "fpgm", "prep"))
"""Tables of a TrueType font that a CIDFont in a PDF has (ISO 32000-1, 9.9); all else is for programs that lay text out."""


@contextmanager
def needed_tables_alone() -> Iterator[None]:
    """Inside the block fontTools loads TrueType fonts for subsetting without the tables that a PDF does not need.

    Matplotlib embeds one subset per figure and face, and most of its time goes to reading and writing the tables of ligatures,
    kerning, names and characters of the whole font. The text is laid out already and names its glyphs by number.
    """
    from fontTools import subset

    load = subset.load_font

    def load_needed(*args: Any, **settings: Any) -> Any:
        font = load(*args, **settings)
        if "glyf" in font:
            # without a table of names the glyphs are numbered
            font.setGlyphOrder([f"glyph{n:05d}" for n in range(font["maxp"].numGlyphs)])
            for table in set(font.keys()) - NEEDED - {"GlyphOrder"}:
                del font[table]
        return font

    subset.load_font = load_needed
    try:
        yield
    finally:
        subset.load_font = load
