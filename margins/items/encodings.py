"""Encodings: how text that is not UTF-8 reads in those that spreadsheets still write, so that its writer recognises it."""

from __future__ import annotations

import re

#: Codec, its name, and what its readers' texts hold outside ASCII: scripts by ranges of characters.
_OTHERS = (
    ("gb18030", "GB18030", "\u3000-\u303f\u4e00-\u9fff\uff00-\uffef\u2010-\u2027"),
    ("cp932", "Shift-JIS", "\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef"),
    ("cp949", "EUC-KR", "\u3000-\u303f\uac00-\ud7a3\uff00-\uffef"),
    ("big5", "Big5", "\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"),
    ("cp1251", "Windows-1251", "\u0400-\u045f\u2013-\u2026\u00ab\u00bb\u2116"),
    ("cp1256", "Windows-1256", "\u0600-\u06ff\u2013-\u2026\u200c-\u200f\u00ab\u00bb"),
)


def readings(raw: bytes, place: bytes) -> list[tuple[str, str]]:
    """Names of encodings with what `place` is in each, of those in which all of `raw` is text of their languages.

    Windows-1252 is always among them where nothing else is.
    """
    western = place.decode("cp1252", "replace")
    found = [] if re.search(r"[\u00a0-\u00bf\ufffd]", western) else [("Windows-1252", western)]
    for codec, name, script in _OTHERS:
        try:
            text = raw.decode(codec)
        except UnicodeDecodeError:
            continue
        # a letter of another script within a Latin word is no text: caf\u0439
        if not re.search(rf"[^\x00-\x7f{script}]|[A-Za-z][\u0400-\u06ff]|[\u0400-\u06ff][A-Za-z]", text):
            found.append((name, place.decode(codec, "ignore")))
    return found or [("Windows-1252", western)]
