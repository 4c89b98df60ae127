"""Counts in words, and other people's text made safe to show or to name a file by."""

from __future__ import annotations

import hashlib
import re
import unicodedata

# Controls, bidirectional marks, lone surrogates and the byte-order mark: each would change more than its own text.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def plural(count: int, noun: str) -> str:
    """A count with its noun, which takes an s in the plural: '1 cluster', '1,200 clusters'."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def escape_control_characters(text: object) -> str:
    """Text with every invisible control character written out, as [U+202E]; newline and tab stay."""
    return _INVISIBLE.sub(lambda match: f"[U+{ord(match[0]):04X}]", str(text).replace("\r\n", "\n"))


def one_line(text: object) -> str:
    """As `escape_control_characters`, with newlines and tabs written out too: nobody's text can look like a line of ours."""
    return escape_control_characters(text).replace("\n", "[U+000A]").replace("\t", "[U+0009]")


def escape_json(text: str) -> str:
    """JSON with every invisible control character in its strings as an escape of JSON; it reads as the same values."""
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


LONGEST_NAME = 100
"""Characters of a file's or folder's name that is made of texts; in UTF-8 at most 200 bytes, of the 255 that disks allow."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?", re.IGNORECASE)
_UNSAFE = re.compile(r'[\s/\\:*?"<>|~$&;!`\'()\[\]{}#%^=,@]+')


def path_component(text: str, end: str = "") -> str:
    """A text from anywhere as the name of one file or folder on any system; `end` is put behind it as it is.

    A name of letters, digits, dots, hyphens and underscores stays as it is. White space, separators and what shells or
    Windows read otherwise become a hyphen, invisible characters go; a dot or hyphen does not stand first, nor a dot last.
    Where more than a colon was changed, eight digits of the text's SHA-256 keep two texts from sharing a name.
    """
    kept = "".join(c for c in unicodedata.normalize("NFC", text) if unicodedata.category(c)[0] != "C")
    name = _UNSAFE.sub("-", kept)
    name = re.sub(r"\.{2,}", ".", name).lstrip(".-").rstrip(".")
    while len(name) > LONGEST_NAME or len(name.encode()) > 2 * LONGEST_NAME:
        name = name[: min(len(name) - 1, LONGEST_NAME)]
    if not name or _RESERVED.fullmatch(name):
        name = f"_{name}"
    if name != text.replace(":", "-"):
        name = f"{name.rstrip('.-')}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return name + end
