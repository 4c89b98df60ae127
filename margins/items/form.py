"""The form of a question: asked, with a question mark of its script, or an unfinished sentence that the answer completes."""

from __future__ import annotations

import re
import unicodedata

_CLOSERS = "\"'”’»›)]}」』）】*_ \t\n\r\u200b\u200e\u200f\u3000"
_LABEL = re.compile(r"(?:^|(?<=\s)|(?<=[?？؟;]))[^\s?？؟;]{1,20}\s?[:：]\s*$")
"""What a prompt may put behind its question: Answer:, A:, 答："""
_ARMENIAN = "\u055e"  # stands on the stressed vowel of the word that asks, not at the end
_GREEK = re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]")


def is_asked(question: str) -> bool:
    """Whether a text ends as a question does in its script; False for an unfinished sentence.

    A script or an author without question marks gives False: the text alone then does not tell.
    """
    text = question.rstrip(_CLOSERS)
    text = _LABEL.sub("", text).rstrip(_CLOSERS)
    if not text:
        return False
    last = text[-1]
    if "QUESTION MARK" in unicodedata.name(last, "") or last == "‽":
        return True
    if last == ";" and _GREEK.search(text):
        return True
    return _ARMENIAN in re.split(r"[։.]", text)[-1]
