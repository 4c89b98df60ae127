"""A run's summary for the terminal: at most 80 columns, the verdict first."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any


def digest(summary: Mapping[str, Any]) -> str:
    """The verdict, then success per condition with intervals, then what could not be measured."""
    verdict = summary.get("verdict") or {}
    lines = []
    counted = summary.get("items") or {}
    if summary.get("complete") is False:
        lines += [f"UNFINISHED: only {counted.get('n')} items are measured so far; the same audit resumes", ""]
    if verdict.get("sentence"):
        lines += [*textwrap.wrap(f"{verdict['label']}: {verdict['sentence']}", 80), ""]
    rows = [
        o
        for o in summary.get("outcomes") or []
        if o["tier"] is None and o["population"] == "all" and o["measure"] == "top1"
    ]
    splits = list(dict.fromkeys(row["split"] for row in rows))
    lines.append("first-token success [95% interval]")
    lines.append(f"{'':<18}" + "".join(f"{split:<20}" for split in splits))
    for condition in dict.fromkeys(row["condition"] for row in rows):
        cells = {row["split"]: _cell(row) for row in rows if row["condition"] == condition}
        lines.append(f"{condition:<18}" + "".join(f"{cells.get(split, ''):<20}" for split in splits))
    errors = summary.get("errors") or {"count": 0, "by_reason": []}
    if errors["count"]:
        lines += ["", f"{errors['count']} items could not be measured:"]
        lines += [f"  {row['count']} x {row['reason']}"[:80] for row in errors["by_reason"]]
    return "\n".join(line.rstrip() for line in lines)


def _cell(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    if row["low"] is None:
        return f"{row['value']:.2f}"
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
