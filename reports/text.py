"""Numbers as text for a reader, and untrusted text made safe to show."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from override_gap.margins.text import escape_control_characters, plural

ABSENT = "\u2013"
SPLIT_LABELS = {"retention": "unrelated answers kept"}
"""What a reader sees for a split whose name does not say what success on it is; the others are shown by name."""


def untrusted(text: object) -> Markup:
    """Untrusted text as markup: escaped, control characters written out, its writing direction isolated."""
    if text is None or (isinstance(text, float) and math.isnan(text)):
        return Markup(ABSENT)
    return Markup("<bdi>{}</bdi>").format(escape_control_characters(text))


def prior_message(prior: Mapping[str, Any]) -> str:
    """What `items.prior` of a summary means for the figures: whose old answers the base gave itself, and who is left out."""
    n, known = prior["n"], prior["known"]
    text = (
        f"Old answers: {plural(n, 'conflict')} named none and {'has' if n == 1 else 'have'} the base's own greedy answer "
        f"instead, right or wrong. {known} of these {'counts' if known == 1 else 'count'} as known, and do so by construction: "
        "the base was asked for the very token that is compared. The figures for known items therefore select nothing that "
        "the base knows better, and prior margins are those of answers that the base puts first."
    )
    if known < n:
        text += (
            f" In the other {n - known} the base begins with something that is no part of the answer (a line break, a quotation "
            "mark, a special token), or the item could not be measured."
        )
    left_out = [f"{row['count']} x {row['reason']}" for row in prior["excluded"]]
    if left_out:
        text += f" Left out before anything was measured: {'; '.join(left_out)}."
    if prior["long"]:
        text += f" Answers that are sentences, whose first token is how the sentence begins: {prior['long']} of {n}."
    return text


def script_json(data: Any) -> Markup:
    """JSON for a script element: no character in it can end the element or break a line of script."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def rounded(value: float | None, digits: int = 3) -> str:
    """A number to three significant digits, without exponent where it reads better."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    text = f"{value:.{digits}g}"
    return (f"{value:,.0f}" if abs(value) < 1e9 else text) if "e+" in text else text.replace("-", "\u2212", 1)


def per_cent(value: float | None) -> str:
    """A share as whole per cent without its sign, with a digit more near 0 and 1."""
    if value is None:
        return ABSENT
    digits = 0 if 0.03 <= abs(value) <= 0.97 or value in (0, 1, -1) else 1
    return f"{100 * value:z.{digits}f}".replace("-", "\u2212")


def chat_message(chat: Mapping[str, Any], n: int | None = None) -> str:
    """How questions are put through a chat template, from a manifest's `chat`; `n` is how many items there are."""
    count = chat.get("items")
    which = (
        "Questions are"
        if n is None or count == n or not isinstance(count, int)
        else f"{count:,} of {n:,} questions are"
    )
    template = (
        "a chat template given for this run" if chat.get("template") == "replaced" else "the model's chat template"
    )
    args = chat.get("args")
    settings = [f"{key}={json.dumps(value)}" for key, value in (args.items() if isinstance(args, Mapping) else ())]
    settings += [f"date {chat['day']}"] if chat.get("day") else []
    with_settings = f" ({', '.join(settings)})" if settings else ""
    places = {"system turn": ", behind a system turn", "user turn": ", the system text before the question"}
    opening = json.dumps(chat.get("opening"), ensure_ascii=False)
    how = f"{which} put through {template}{with_settings}{places.get(str(chat.get('system')), '')}"
    return f"{how}; the answer is read after {opening} ({chat.get('answer_begins')})."


def chat_warnings(chat: Mapping[str, Any] | None) -> list[str]:
    """What was wrong with how questions were asked in chat; empty where nothing was."""
    warnings = (chat or {}).get("warnings")
    return [f"{text}." for text in warnings if isinstance(text, str)] if isinstance(warnings, list) else []


def scale_message(handshake: Mapping[str, Any] | None) -> str:
    """Whether the adapters' scale is verified, from a summary's `handshake`: 'scale: verified to 3e-5 nats against ...'."""
    scale = (handshake or {}).get("scale")
    says = scale.get("says") if isinstance(scale, Mapping) else None
    return f"scale: {says if isinstance(says, str) else 'not verified: no check of it is recorded for this run'}"


def scale_is_verified(handshake: Mapping[str, Any] | None) -> bool:
    """Whether a handshake's record says that the scale is verified."""
    scale = (handshake or {}).get("scale")
    return isinstance(scale, Mapping) and scale.get("verified") is True


def capitalised(text: str) -> str:
    """The text with a capital at its start, the rest unchanged."""
    return text[:1].upper() + text[1:]


def p_value(p: float | None) -> str:
    """'p = 0.03' or 'p < 0.0001', not to be broken over lines."""
    text = p_cell(p)
    return f"p\u00a0{text}" if text.startswith("<") else f"p\u00a0=\u00a0{text}"


def p_cell(p: float | None) -> str:
    """A p-value for a column that is named p."""
    if p is None:
        return ABSENT
    return "<\u00a00.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def estimate(result: Mapping | None, kind: str = "number") -> Markup:
    """Value and interval: kind is "share" (per cent), "points" (percentage points) or "number"."""
    if not result or result.get("value") is None:
        return Markup(ABSENT)
    number = per_cent if kind in ("share", "points") else rounded
    unit = {"share": "%", "points": " pp"}.get(kind, "")
    text = escape(number(result["value"]) + unit)
    if result.get("low") is not None and result.get("high") is not None:
        interval = f"[{number(result['low'])}, {number(result['high'])}]"
        text += Markup(' <span class="ci">{}</span>').format(interval)
    return text


def both_intervals(result: Mapping | None, kind: str = "number", cluster: str = "relation") -> Markup:
    """' (by knowledge point [a, b], by relation [c, d])'; empty where the result has one interval alone."""
    each = [(f"by {name}", *limits) for name, limits in _clusterings(result, cluster) if None not in limits]
    if len(each) < 2:
        return Markup("")
    number = per_cent if kind in ("share", "points") else rounded
    texts = [f"{name} [{number(low)}, {number(high)}]" for name, low, high in each]
    return Markup(' <span class="ci">({})</span>').format(escape_control_characters(", ".join(texts)))


def _clusterings(result: Mapping | None, cluster: str) -> list[tuple[str, tuple[float | None, float | None]]]:
    """The limits by knowledge point and by the higher cluster, as far as the result holds them."""
    keys = {"knowledge point": ("low_point", "high_point"), cluster: ("low_cluster", "high_cluster")}
    return [(name, ((result or {}).get(low), (result or {}).get(high))) for name, (low, high) in keys.items()]


def sample_size(result: Mapping | None) -> str:
    """'n = 194 in 72 knowledge points'; empty where there is no n."""
    if not result or result.get("n") is None:
        return ""
    points = result.get("points")
    return f"n = {result['n']:,}" + (f" in {plural(points, 'knowledge point')}" if points else "")


SIZE_HEAD = "n (knowledge points)"
"""Head of a column of `size_cell`."""


def size_cell(result: Mapping | None) -> str:
    """'194 (72)': n and, in parentheses, the number of knowledge points, for a column of sizes."""
    if not result or result.get("n") is None:
        return ""
    return f"{result['n']:,}" + (f" ({result['points']:,})" if result.get("points") else "")


def split_label(split: str) -> str:
    """A split as a reader sees it."""
    return SPLIT_LABELS.get(split, split)
