"""Checks that a run's manifest holds plausible values."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

MOST_UNITS = 10**9
"""Units and shards that a manifest can promise: far more than files fit in a folder."""

MOST_COUNTED = 10**12
"""Items and layers that a manifest can state."""

MOST_LOOKS = 20
"""Looks that a run which stops by a rule can have made."""

TOLD_QUESTIONS = "the method was told what is asked of each document, and what the document answers"


def told_questions(adapters: Mapping[str, Any] | None) -> bool:
    """Whether the source of a manifest's `adapters` reads what is asked of its documents (`SourceTraits.reads_questions`)."""
    settings = (adapters or {}).get("settings")
    return isinstance(settings, dict) and "questions_sha256" in settings


def manifest_error(manifest: Mapping[str, Any]) -> str | None:
    """The first value that no audit writes into a manifest, in words, or None. Keys that are missing are not checked."""
    units, shard, conditions, seed = (manifest.get(name) for name in ("units", "shard", "conditions", "seed"))
    if units is not None and not _whole(units, 0, MOST_UNITS):
        span = f"0 to {MOST_UNITS}" if _whole(units, 0, units) else "0"
        return f"units needs a whole number from {span}, got {reprlib.repr(units)}"
    if shard is not None and not (
        isinstance(shard, dict)
        and _whole(shard.get("of"), 1, MOST_UNITS)
        and _whole(shard.get("number"), 1, shard["of"])
    ):
        return f"shard needs the whole numbers number and of, number from 1 to of, got {reprlib.repr(shard)}"
    if conditions is not None and not (
        isinstance(conditions, list) and all(isinstance(name, str) for name in conditions)
    ):
        return f"conditions needs a list of names, got {reprlib.repr(conditions)}"
    chat = manifest.get("chat")
    if chat is not None and not (
        isinstance(chat, dict)
        and _whole(chat.get("items"), 1, chat.get("items"))
        and isinstance(chat.get("args"), dict)
        and all(isinstance(chat.get(name), str) for name in ("template_sha256", "answer_begins", "opening", "example"))
        and isinstance(chat.get("warnings"), list)
        and all(isinstance(text, str) for text in chat["warnings"])
    ):
        return f"chat needs how questions go through the chat template, got {reprlib.repr(chat)}"
    handshake = manifest.get("handshake")
    if handshake is not None and not _is_handshake(handshake):
        return f"handshake needs checks and scale, each with whether it passed and what it says, got {reprlib.repr(handshake)}"
    until = manifest.get("until")
    if until is not None and not _is_until(until):
        return f"until needs rule, looks and where the run stopped, got {reprlib.repr(until)}"
    doses = manifest.get("prior_dose")
    if doses is not None and not (
        isinstance(doses, dict)
        and all(_whole(doses.get(name), 0, 10**12) for name in ("items", "points", "conflicts_asked"))
    ):
        return f"prior_dose needs the whole numbers items, points and conflicts_asked, got {reprlib.repr(doses)}"
    seals = manifest.get("seals")
    if seals is not None and not (
        isinstance(seals, dict)
        and all(isinstance(seals.get(name), dict) for name in ("units", "files"))
        and all(isinstance(text, str) for name in ("units", "files") for text in seals[name].values())
    ):
        return f"seals needs units and files, each with a hash per name, got {reprlib.repr(seals)}"
    items, subject = manifest.get("items"), manifest.get("subject")
    for name, about, count in (("items", items, "count"), ("subject", subject, "layers")):
        value = about.get(count) if isinstance(about, dict) else None
        if value is not None and not _whole(value, 0, MOST_COUNTED):
            return f"{count} of {name} needs a whole number from 0 to {MOST_COUNTED}, got {reprlib.repr(value)}"
    if seed is not None and not _whole(seed, 0, seed):
        return f"seed needs a whole number from 0, got {reprlib.repr(seed)}"
    return None


def _is_handshake(value: Any) -> bool:
    """Whether a value is the record of a handshake: `{"checks": [{name, passed, says}], "scale": {verified, gap_nats, says}}`."""
    if not isinstance(value, dict) or not isinstance(value.get("checks"), list):
        return False
    scale, checks = value.get("scale"), value["checks"]
    if not isinstance(scale, dict) or not all(isinstance(check, dict) for check in checks):
        return False
    if not all(isinstance(check.get("name"), str) for check in checks):
        return False
    gap = scale.get("gap_nats")
    said = [(check.get("passed"), check.get("says")) for check in checks] + [(scale.get("verified"), scale.get("says"))]
    return (gap is None or (type(gap) in (int, float) and gap >= 0)) and all(
        (passed is None or isinstance(passed, bool)) and isinstance(says, str) for passed, says in said
    )


def _is_until(value: Any) -> bool:
    """Whether a value says how a run was looked at while it was measured: rule, looks in their order, and where it stopped."""
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("rule"), str)
        or not isinstance(value.get("looks"), list)
    ):
        return False
    share, places = 0.0, value.get("units_at_looks")
    if not isinstance(places, list) or not all(_whole(place, 1, MOST_UNITS) for place in places):
        return False
    if len(value["looks"]) > MOST_LOOKS:
        return False
    for look in value["looks"]:
        if not isinstance(look, dict) or not _whole(look.get("units"), 1, MOST_UNITS):
            return False
        if type(look.get("share")) not in (int, float) or not share + 1e-6 < look["share"] <= 1:
            return False
        share = look["share"]
    stopped = value.get("stopped")
    return stopped is None or (
        isinstance(stopped, dict)
        and bool(value["looks"])
        and all(_whole(stopped.get(name), 0, 10**12) for name in ("units", "items", "unmeasured"))
    )


def _whole(value: Any, least: int, most: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
