"""The numbers of the first screen, each bound to the key of summary.json that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from override_gap.reports.text import counted, estimate, short


@dataclass(frozen=True)
class HeadlineNumber:
    """One number with its label; `key` is its path in summary.json, `about` that of everything shown with it."""

    label: str
    key: str
    about: str
    shown: Markup
    value: Any
    below: str


def at(summary: Mapping, key: str) -> Any:
    """What a dotted path names, list places included; None where the path ends early."""
    found: Any = summary
    for step in key.split("."):
        if isinstance(found, list):
            found = found[int(step)] if step.isdigit() and int(step) < len(found) else None
        elif isinstance(found, Mapping):
            found = found.get(step)
        else:
            return None
    return found


def place(summary: Mapping, section: str, **wanted: Any) -> str | None:
    """Path of the first row of a section that has these values."""
    for number, row in enumerate(at(summary, section) or []):
        if all(row.get(name) == value for name, value in wanted.items()):
            return f"{section}.{number}"
    return None


def headline_numbers(summary: Mapping) -> list[HeadlineNumber]:
    """Those of the first screen that this run has, in the order of the argument."""
    delivered = {"condition": "as-delivered", "measure": "top1", "tier": None}
    gradient = summary.get("prior_gradient") or {}
    wanted = (
        (
            "Conflicts overridden, as delivered",
            place(summary, "outcomes", split="conflict", population="all", **delivered),
            "share",
        ),
        (
            "of those that the base knows",
            place(summary, "outcomes", split="conflict", population="known", **delivered),
            "share",
        ),
        (
            "Weakest minus strongest quarter of priors"
            + (f" ({gradient['measure']})" if gradient.get("measure") else ""),
            "prior_gradient.gap",
            "points",
        ),
        ("Failures rescued by amplitude", "verdict.rescued", "share"),
        ("Novel facts recalled", place(summary, "outcomes", split="novel", population="all", **delivered), "share"),
        (
            "Unrelated answers kept",
            place(summary, "outcomes", split="retention", population="all", **delivered),
            "share",
        ),
    )
    found = []
    for label, key, kind in wanted:
        own = at(summary, key) if key else None
        if key and own and own.get("value") is not None:
            found.append(HeadlineNumber(label, key, key, estimate(own, kind), own["value"], counted(own)))
    items = summary.get("items") or {}
    if items.get("measured") is not None:
        left = items.get("excluded") or 0
        below = f"of {items['n']:,}; " + (f"{left:,} could not be measured" if left else "every one was measured")
        found.append(
            HeadlineNumber(
                "Items measured", "items.measured", "items", Markup(short(items["measured"])), items["measured"], below
            )
        )
    return found
