"""Other people's text as a reader can see it, on a page and on a terminal."""

from __future__ import annotations

import re

# Controls, bidirectional marks, lone surrogates and the byte-order mark: each would change more than its own text.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def visible(text: object) -> str:
    """Text with every invisible control written out, as [U+202E]; newline and tab stay."""
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", str(text).replace("\r\n", "\n"))
