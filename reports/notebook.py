"""What a notebook shows of a run: its first screen, as a fragment of HTML with its styles in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

_MEANING = re.compile(r'<span class="meaning".*?</span>', re.DOTALL)
_BOX = (
    "font-family:sans-serif;max-width:60em;line-height:1.45;border:1px solid #8888;border-radius:6px;padding:0.6em 1em"
)
_HEADING = "font-size:0.8em;letter-spacing:0.04em;text-transform:uppercase;opacity:0.75;margin:0.7em 0 0.1em"


def first_screen_html(summary: Mapping[str, Any]) -> str:
    """What was tested, what came out and what to do: the text of the page's first screen, all of it escaped."""
    from override_gap.reports.page.first_screen import first_screen

    blocks = Markup("")
    for part in first_screen(summary):
        said = Markup(" ").join(_plain(sentence) for sentence in part.sentences)
        lead = Markup("<b>{}</b> ").format(_plain(part.lead)) if part.lead else Markup("")
        blocks += Markup('<div style="{}">{}</div><div>{}{}</div>').format(_HEADING, part.heading, lead, said)
    return str(Markup('<div class="override-gap" style="{}">{}</div>').format(_BOX, blocks))


def _plain(sentence: Markup) -> Markup:
    """A sentence without its definitions and elements: its words, escaped again."""
    return Markup.escape(Markup(_MEANING.sub("", str(sentence))).striptags())
