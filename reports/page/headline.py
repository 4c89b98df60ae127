"""The numbers of the first screen, each bound to the key of summary.json that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from override_gap.margins.text import plural
from override_gap.reports.text import estimate, rounded, sample_size


@dataclass(frozen=True)
class HeadlineNumber:
    """One number with its label; `key` is its path in summary.json, `about` that of everything shown with it."""

    label: str
    key: str
    about: str
    shown: Markup
    value: Any
    below: str
    bar: tuple[float, float, float] | None = None
    """A share with its interval, in per cent of the card's width: value, low, high."""


def value_at(summary: Mapping, path: str) -> Any:
    """The value at a dotted path, whose steps may be positions in lists; None where the path does not exist."""
    value: Any = summary
    for step in path.split("."):
        if isinstance(value, list):
            value = value[int(step)] if step.isdigit() and int(step) < len(value) else None
        elif isinstance(value, Mapping):
            value = value.get(step)
        else:
            return None
    return value


def row_path(summary: Mapping, section: str, **values: Any) -> str | None:
    """Path of the first row of a section that has these values; None where there is none."""
    for n, row in enumerate(value_at(summary, section) or []):
        if all(row.get(name) == value for name, value in values.items()):
            return f"{section}.{n}"
    return None


FIRST = ("conflict", "known", "novel", "retention")
"""The numbers of the first screen, in order; each has a card even where it was not measured."""
ABOUT = {
    "conflict": ("Conflicts overridden", "the run has no conflicts"),
    "known": ("Known conflicts overridden", "no conflict is known to the model"),
    "novel": (
        "New facts recalled",
        "the run asks no questions on new facts",
    ),
    "retention": ("Unrelated answers kept", "no unrelated questions: what the adapters damage is unknown"),
}


def first_numbers(summary: Mapping) -> list[HeadlineNumber]:
    """The four cards of the first screen, as delivered; one that was not measured says so and what that means."""
    cards = []
    for name in FIRST:
        split, population = ("conflict", "known") if name == "known" else (name, "all")
        label, without = ABOUT[name]
        path = delivered_path(summary, split, population)
        row = value_at(summary, path) if path else None
        if path and row and row.get("value") is not None:
            bar = tuple(100 * (row["value"] if row.get(key) is None else row[key]) for key in ("value", "low", "high"))
            shown = estimate(row, "share")
            below = (
                f"{plural(row['n'], 'question')} on {plural(row['points'], 'fact')}"
                if row.get("points")
                else sample_size(row)
            )
            cards.append(HeadlineNumber(label, path, path, shown, row["value"], below, bar))
        else:
            cards.append(HeadlineNumber(label, "", "", Markup("not measured"), None, without))
    return cards


def headline_numbers(summary: Mapping) -> list[HeadlineNumber]:
    """Further numbers of the verdict that this run has."""
    measure = (summary.get("prior_gradient") or {}).get("measure")
    by_measure = f" (by {measure})" if measure not in (None, "top1") else ""
    estimates = (
        (f"Success on weakly held minus firmly held facts{by_measure}", "prior_gradient.gap", "points"),
        ("Failures that another gain repairs", "verdict.held", "share"),
    )
    numbers = []
    for label, path, kind in estimates:
        row = value_at(summary, path)
        if row and row.get("value") is not None:
            numbers.append(HeadlineNumber(label, path, path, estimate(row, kind), row["value"], sample_size(row)))
    items = summary.get("items") or {}
    if items.get("measured") is not None:
        excluded = items.get("excluded") or 0
        below = f"of {items['n']:,}; " + (f"{excluded:,} could not be measured" if excluded else "all were measured")
        if stopped := (summary.get("until") or {}).get("stopped"):
            failed = f"; {excluded:,} could not be measured" if excluded else ""
            below = f"of {stopped['items'] + stopped['unmeasured']:,} in the item set; stopped early{failed}"
        text = Markup(rounded(items["measured"]))
        numbers.append(HeadlineNumber("Items measured", "items.measured", "items", text, items["measured"], below))
    return numbers


def delivered_path(summary: Mapping, split: str, population: str) -> str | None:
    """Path of the row of success as delivered, by the first token and over all tiers."""
    columns = {"condition": "as-delivered", "measure": "top1", "tier": None}
    return row_path(summary, "outcomes", split=split, population=population, **columns)
