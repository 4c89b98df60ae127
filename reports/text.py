"""Numbers as a reader wants them, and other people's text made safe to show."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from override_gap.margins.text import plural

ABSENT = "\u2013"


def said(text: object) -> Markup:
    """Someone else's text, escaped, its controls written out and its direction kept to itself."""
    if text is None or (isinstance(text, float) and math.isnan(text)):
        return Markup(ABSENT)
    return Markup("<bdi>{}</bdi>").format(escape_control_characters(text))


def embedded(data: Any) -> Markup:
    """JSON for a script element: no character in it can end the element or break a line of script."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def short(value: float | None, digits: int = 3) -> str:
    """A number to three significant digits, without exponent where it reads better."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    text = f"{value:.{digits}g}"
    return (f"{value:,.0f}" if abs(value) < 1e9 else text) if "e+" in text else text.replace("-", "\u2212", 1)


def share(value: float | None) -> str:
    """A share as whole per cent, with a digit more near 0 and 1."""
    if value is None:
        return ABSENT
    digits = 0 if 0.03 <= abs(value) <= 0.97 or value in (0, 1, -1) else 1
    return f"{100 * value:.{digits}f}".replace("-", "\u2212")


def p_value(p: float | None) -> str:
    """'p = 0.03' or 'p < 0.0001', not to be broken over lines."""
    text = chance(p)
    return f"p\u00a0{text}" if text.startswith("<") else f"p\u00a0=\u00a0{text}"


def chance(p: float | None) -> str:
    """A p-value."""
    if p is None:
        return ABSENT
    return "<\u00a00.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def estimate(found: Mapping | None, kind: str = "number") -> Markup:
    """Value and interval: kind is "share" (per cent), "points" (percentage points) or "number"."""
    if not found or found.get("value") is None:
        return Markup(ABSENT)
    show = share if kind in ("share", "points") else short
    unit = {"share": "%", "points": " pp"}.get(kind, "")
    text = escape(show(found["value"]) + unit)
    if found.get("low") is not None and found.get("high") is not None:
        ends = f"[{show(found['low'])}, {show(found['high'])}]"
        text += Markup(' <span class="ci">{}</span>').format(ends)
    return text


def counted(found: Mapping | None) -> str:
    """'n = 194 in 72 clusters', as on the figures."""
    if not found or found.get("n") is None:
        return ""
    points = found.get("points")
    return f"n = {found['n']:,}" + (f" in {plural(points, 'cluster')}" if points else "")


# Controls, bidirectional marks, lone surrogates and the byte-order mark: each would change more than its own text.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def escape_control_characters(text: object) -> str:
    """Text with every invisible control written out, as [U+202E]; newline and tab stay."""
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", str(text).replace("\r\n", "\n"))
