"""Sentences of the first screen: words that are explained, values that are bound to their keys in the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from override_gap.reports.glossary import explained
from override_gap.reports.page.headline import delivered_path, value_at
from override_gap.reports.text import escape_control_characters, per_cent, untrusted

RECALLS_NOTHING = 0.20
"""Below this upper limit of new facts recalled, the page says first that the adapters recall almost nothing."""
SHOWN = 60
"""Characters of another's name that a headline has room for; the table of the run has all of it."""
Value = tuple[str, object]
"""A key of the summary, and what is shown of the value there."""


def delivered(summary: Mapping[str, Any], split: str, population: str = "all") -> tuple[str, Mapping[str, Any]] | None:
    """Key and row of success as delivered on a split, by the first token; None where it was not measured."""
    path = delivered_path(summary, split, population)
    row = value_at(summary, path) if path else None
    return (path, row) if path and row and row.get("value") is not None else None


def recalls_nothing(summary: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """New facts recalled as delivered, where surely less than RECALLS_NOTHING of them are; else None."""
    novel = delivered(summary, "novel")
    return novel if novel and novel[1].get("high") is not None and novel[1]["high"] < RECALLS_NOTHING else None


def shortened(text: object, most: int = SHOWN) -> Markup:
    """Another's name, cut where it is too long for a headline."""
    shown = escape_control_characters(text)
    return untrusted(shown if len(shown) <= most else f"{shown[: most - 1]}\u2026")


def percent(row: Mapping[str, Any] | None) -> str:
    """A share in per cent without its interval."""
    return "not measured" if not row or row.get("value") is None else f"{per_cent(row['value'])}%"


def sentence(text: str, seen: set[str], *values: Value) -> Markup:
    """A sentence with values at its braces, each bound to its key; terms are explained in its own words, not in the values."""
    first, *rest = text.split("{}")
    whole = explained(first, seen)
    for (key, value), words in zip(values, rest, strict=True):
        whole += Markup('<b data-key="{}">{}</b>').format(key, value) + explained(words, seen)
    return whole
