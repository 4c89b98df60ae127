"""The page's tables as plain text cells, for the forms that are not HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from override_gap.margins.runtime import refusal_message
from override_gap.margins.text import plural
from override_gap.reports.page.answer_tables import spoken
from override_gap.reports.page.published import published
from override_gap.reports.page.tables import tables
from override_gap.reports.text import escape_control_characters


@dataclass(frozen=True)
class Plain:
    """A table of text; nothing in it is escaped for any language yet."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def text(cell: Markup | str) -> str:
    """What a reader of the page sees in a cell, on one line."""
    seen = (
        Markup(cell.replace("<br>", " ")).striptags() if isinstance(cell, Markup) else escape_control_characters(cell)
    )
    return " ".join(str(seen).split())


def plain_tables(summary: Mapping) -> list[Plain]:
    """Every table of the page that this summary can fill."""
    return [
        Plain(
            text(table.title),
            text(table.note),
            tuple(text(cell) for cell in table.head),
            tuple(tuple(text(cell) for cell in row) for row in table.rows),
        )
        for table in [*published(summary), *tables(summary), *spoken(summary)]
    ]


def heading(summary: Mapping) -> str:
    """'SUBJECT with ADAPTERS'."""
    subject, adapters = (summary.get(key) or {} for key in ("subject", "adapters"))
    return text(f"{subject.get('name') or 'a model'} with {adapters.get('name') or 'an adapter'}")


def paragraphs(summary: Mapping) -> list[str]:
    """Verdict, what was asked and what could not be measured, a sentence or two each."""
    items, verdict, errors = (summary.get(key) or {} for key in ("items", "verdict", "errors"))
    found = []
    if summary.get("complete") is False:
        found.append("This run is not complete: what follows describes only what was measured before it stopped.")
    if verdict.get("label"):
        found.append(f"Verdict: {verdict['label']}. {verdict.get('sentence') or ''}")
    if items.get("n") is not None:
        found.append(
            f"Items: {items.get('name') or 'unnamed'}, {plural(items['n'], 'question')} in "
            f"{plural(items.get('points') or 0, 'knowledge point')}; "
            f"{errors.get('count') or 0} could not be measured under at least one condition."
        )
    if summary.get("refused"):
        found.append(f"{refusal_message(summary['refused'])}.".replace("not measured", "Not measured"))
    found.append(
        "Brackets hold 95% intervals clustered by knowledge point. Success by top1: the first differing token of the "
        "wanted answer is the model's most likely token."
    )
    return [text(own) for own in found]


def hypotheses(summary: Mapping) -> Plain:
    """Claims with their status."""
    rows = summary.get("hypotheses") or []
    head = ("id", "claim", "status", "p, Holm")
    return Plain(
        "Hypotheses",
        "",
        head,
        tuple(
            (
                text(row["id"]),
                text(row["claim"]),
                row["status"],
                "" if row.get("p_holm") is None else f"{row['p_holm']:.3g}",
            )
            for row in rows
        ),
    )
