"""Twenty texts that try to be more than text, and a run whose items and answers are made of them."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pandas as pd

HOSTILE = [
    "<script>window.ran = 1; alert(1)</script>", "</script><script>window.ran = 2</script>", "<!--<script>", "]]>",
    "\"'`><img src=x onerror=window.ran=3>", "\u202eevil\u202c", "\u2066unclosed", "\u2028line\u2029",
    "\x00\x07\x1b[31m", "{{ 7 * 7 }}{% raw %}${window.ran = 4}", "&amp;&lt;", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "", "a" * 10_000, "$\\frac{1}{2}$", "javascript:window.ran=5", "\ud800", "</style><style>*{display:none}",
    "\ufeffbom\\u003c", "<svg onload=window.ran=6><a href='javascript:window.ran=7'>press</a>",
]  # fmt: skip
TEXTS = ("question", "document", "answer", "prior_answer", "answer_text", "top_token", "wording", "point", "error")


def with_twenty(run: SimpleNamespace, texts: list[str]) -> SimpleNamespace:
    """The run with the first twenty items' texts replaced, one text an item; numbers and all other items untouched."""
    spoiled = copy.copy(run)
    spoiled.readings = rows = run.readings.copy()
    own = dict(zip(dict.fromkeys(rows["item"]), texts, strict=False))
    for column in TEXTS:
        # As objects: pandas' own strings refuse the lone surrogate, a model's answer need not.
        told = [own.get(item, text) for item, text in zip(rows["item"], rows[column], strict=True)]
        rows[column] = pd.Series(told, index=rows.index, dtype=object)
    return spoiled
