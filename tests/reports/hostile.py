"""Twenty hostile texts (markup, scripts, control characters), and a run whose items and answers are made of them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from override_gap.analyses.readings import RunFrame

HOSTILE = [
    "<script>window.ran = 1; alert(1)</script>", "</script><script>window.ran = 2</script>", "<!--<script>", "]]>",
    "\"'`><img src=x onerror=window.ran=3>", "\u202eevil\u202c", "\u2066unclosed", "\u2028line\u2029",
    "\x00\x07\x1b[31m", "{{ 7 * 7 }}{% raw %}${window.ran = 4}", "&amp;&lt;", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "", "a" * 10_000, "$\\frac{1}{2}$", "javascript:window.ran=5", "\ud800", "</style><style>*{display:none}",
    "\ufeffbom\\u003c", "<svg onload=window.ran=6><a href='javascript:window.ran=7'>press</a>",
]  # fmt: skip
TEXTS = ("question", "document", "answer", "prior_answer", "answer_text", "top_token", "wording", "point", "error")


def with_texts(run: RunFrame, texts: list[str]) -> RunFrame:
    """The run with the texts of its first items replaced, one text per item; numbers and all other items unchanged."""
    rows = run.readings.copy()
    by_item = dict(zip(dict.fromkeys(rows["item"]), texts, strict=False))
    for column in TEXTS:
        # As objects: pandas' string type refuses a lone surrogate, which a model's answer may contain.
        replaced = [by_item.get(item, text) for item, text in zip(rows["item"], rows[column], strict=True)]
        rows[column] = pd.Series(replaced, index=rows.index, dtype=object)
    return replace(run, readings=rows)
