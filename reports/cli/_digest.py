"""A run's summary for the terminal: at most 80 columns, the verdict first."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from override_gap.margins.runtime import refusal_message
from override_gap.margins.text import one_line, plural
from override_gap.probes.store.remote import store_at
from override_gap.probes.timing import PARTS, TimingProfile
from override_gap.reports.cli._say import BOLD, PLAIN
from override_gap.reports.text import chat_warnings, prior_message, scale_message

WIDTH, NAME, CELL = 80, 20, 15
MOST_REASONS, LONGEST = 12, 1600


@runtime_checkable
class Stream(Protocol):
    """What may be a terminal: sys.stdout, for one."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        ...


def coloured(stream: Stream) -> bool:
    """Whether a stream is a terminal that shows colour: not a pipe, and NO_COLOR (no-color.org) is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def digest(summary: Mapping[str, Any], colour: bool = False) -> str:
    """The verdict, then success per condition in per cent with intervals, then what could not be measured."""
    verdict = summary.get("verdict") or {}
    lines = []
    items = summary.get("items") or {}
    if summary.get("complete") is False:
        lines += [f"UNFINISHED: only {items.get('n')} items are measured so far; the same audit command resumes", ""]
    for caution in summary.get("cautions") or []:
        lines += [*_wrapped(f"caution: {one_line(caution)}"), ""]
    if verdict.get("sentence"):
        sentence = _wrapped(f"{verdict['label']}: {verdict['sentence']}")
        if colour:
            sentence[0] = sentence[0].replace(verdict["label"], f"{BOLD}{verdict['label']}{PLAIN}", 1)
        lines += [*sentence, ""]
    lines += [*_wrapped(one_line(scale_message(summary.get("handshake")))), ""]
    if says := (summary.get("geometry") or {}).get("says"):
        lines += [*_wrapped(one_line(says)), ""]
    if items.get("prior"):
        lines += [*_wrapped(prior_message(items["prior"])), ""]
    for text in chat_warnings(summary.get("chat")):
        lines += [*_wrapped(one_line(text)), ""]
    if summary.get("refused"):
        lines += [*_wrapped(refusal_message(summary["refused"])), ""]
    rows = [
        row
        for row in summary.get("outcomes") or []
        if row["tier"] is None and row["population"] == "all" and row["measure"] == "top1"
    ]
    splits = list(dict.fromkeys(row["split"] for row in rows))
    lines.append("first-token success, per cent [95% interval]")
    lines.append(f"{'':<{NAME}}" + "".join(f"{one_line(split):<{CELL}}" for split in splits))
    for condition in dict.fromkeys(row["condition"] for row in rows):
        cells = {row["split"]: _cell(row) for row in rows if row["condition"] == condition}
        name = one_line(condition)
        name = name if len(name) < NAME else f"{name[: NAME - 4]}..."
        lines.append(f"{name:<{NAME}}" + "".join(f"{cells.get(split, ''):<{CELL}}" for split in splits))
    errors = summary.get("errors") or {"count": 0, "by_reason": []}
    if errors["count"]:
        lines += ["", f"{plural(errors['count'], 'item')} could not be measured under at least one condition:"]
        lines += [one_line(line)[:WIDTH] for line in _reasons(errors["by_reason"])]
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(text: str) -> list[str]:
    """A paragraph in lines of WIDTH; one that quotes a name of thousands of characters is cut in the middle."""
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return textwrap.wrap(cut, WIDTH)


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line per reason with its count; those that differ in the adapter's name alone are one, of which one is named."""
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        alike.setdefault(re.sub(r"^adapters? \S+( and \S+)?(?=[ :])", "", str(row["reason"])), []).append(row)
    lines = []
    for rest, group in alike.items():
        named, others = str(group[0]["reason"]).removesuffix(rest), f" (and {len(group) - 1} more)" * (len(group) > 1)
        lines.append(f"  {sum(row['count'] for row in group)} x {named}{others}{rest}")
    if len(lines) > MOST_REASONS:
        lines[MOST_REASONS:] = [f"  ... {len(lines) - MOST_REASONS} more reasons: errors in summary.json"]
    return lines


def _cell(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    value, low, high = (None if row[key] is None else f"{100 * row[key]:z.0f}" for key in ("value", "low", "high"))
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


def write_profile(profile: TimingProfile, run: Path | str) -> str:
    """Write RUN/profile.json, `seconds` per part that sum to `total`; returns the same as a table to print."""
    total = sum(profile.seconds.values())
    store_at(run).write_json("profile.json", {"total": total, "seconds": profile.seconds, "meaning": PARTS})
    rows = [
        f"  {part:<11}{seconds:8.1f} s {100 * seconds / total:4.0f}%  {PARTS[part]}"
        for part, seconds in profile.seconds.items()
    ]
    return "\n".join([f"{total:.1f} s in all, of which", *rows])
