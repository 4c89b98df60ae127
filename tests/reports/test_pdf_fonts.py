"""What is embedded in a figure's PDF is enough to draw every glyph as the font has it."""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from fontTools import subset
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.ttLib import TTFont
from matplotlib import font_manager

from override_gap.reports.figures.pdf_fonts import NEEDED, needed_tables_alone
from override_gap.reports.figures.style import canvas, save

TEXT = "Agé 0.95 – −3"


def embedded_fonts(pdf: bytes) -> list[TTFont]:
    """The font programs of a PDF: streams that hold a TrueType file."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, flags=re.S)
    fonts = []
    for stream in streams:
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        if content.startswith(b"\0\1\0\0"):
            fonts.append(TTFont(BytesIO(content)))
    return fonts


def outlines(font: TTFont) -> set[tuple]:
    """Every glyph but the first, which stands for missing ones, as its width and its outline with components resolved."""
    glyphs, found = font.getGlyphSet(), set()
    for name in font.getGlyphOrder()[1:]:
        pen = DecomposingRecordingPen(glyphs)
        glyphs[name].draw(pen)
        found.add((glyphs[name].width, repr(pen.value)))
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    fig = canvas(3, 2)
    fig.text(0.1, 0.5, TEXT)
    _, _, pdf = save(fig, tmp_path_factory.mktemp("figure") / "text")
    return Path(pdf).read_bytes()


def test_every_character_is_embedded_with_the_outline_and_width_that_the_font_has(saved: bytes) -> None:
    whole = TTFont(font_manager.findfont("DejaVu Sans"))
    fonts = embedded_fonts(saved)
    embedded = set().union(*map(outlines, fonts))
    assert embedded <= outlines(whole), "no glyph was changed"
    glyphs, names = whole.getGlyphSet(), whole.getBestCmap()
    for character in TEXT:
        pen = DecomposingRecordingPen(glyphs)
        glyphs[names[ord(character)]].draw(pen)
        assert (glyphs[names[ord(character)]].width, repr(pen.value)) in embedded, character


def test_the_embedded_font_has_the_tables_that_a_pdf_needs_and_no_other(saved: bytes) -> None:
    whole = TTFont(font_manager.findfont("DejaVu Sans"))
    assert "GPOS" in whole
    for font in embedded_fonts(saved):
        assert set(font.keys()) - {"GlyphOrder"} == NEEDED & set(whole.keys())


def test_the_text_can_be_searched_by_its_characters(saved: bytes) -> None:
    maps = [
        zlib.decompress(stream)
        for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", saved, flags=re.S)
        if stream[:1] == b"x"
    ]
    told = b"".join(text for text in maps if b"beginbfrange" in text)
    for character in TEXT.replace(" ", ""):
        assert f"<{ord(character):04x}>".encode() in told, character


def test_fonttools_is_as_it_was_behind_the_block_also_after_an_error() -> None:
    load = subset.load_font
    with suppress(RuntimeError), needed_tables_alone():
        assert subset.load_font is not load
        raise RuntimeError
    assert subset.load_font is load
