"""The page's tables as plain text cells, for the forms that are not HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from override_gap.margins.runtime import refusal_message
from override_gap.margins.text import plural
from override_gap.probes.store.manifest import TOLD_QUESTIONS, told_questions
from override_gap.reports.page.sections import tables
from override_gap.reports.page.tuning_tables import tuning_tables
from override_gap.reports.text import (
    capitalised,
    chat_message,
    chat_warnings,
    escape_control_characters,
    prior_message,
    scale_message,
)


@dataclass(frozen=True)
class PlainTable:
    """A table of text, not yet escaped for any markup language."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.head)]
        if wrong:  # each number would stand under another one's heading
            raise ValueError(f"table {self.title!r}: {len(self.head)} headings over a row of {len(wrong[0])} cells")


def plain_text(cell: Markup | str) -> str:
    """What a reader of the page sees in a cell, on one line."""
    text = (
        Markup(cell.replace("<br>", " ")).striptags() if isinstance(cell, Markup) else escape_control_characters(cell)
    )
    return " ".join(str(text).split())


def plain_tables(summary: Mapping) -> list[PlainTable]:
    """Every table of the page that this summary can fill."""
    return [
        PlainTable(
            plain_text(table.title),
            plain_text(table.note),
            tuple(plain_text(cell) for cell in table.head),
            tuple(tuple(plain_text(cell) for cell in row) for row in table.rows),
        )
        for table in (*tables(summary), *tuning_tables(summary))
    ]


def heading(summary: Mapping) -> str:
    """'SUBJECT with ADAPTERS'."""
    subject, adapters = (summary.get(key) or {} for key in ("subject", "adapters"))
    return plain_text(f"{subject.get('name') or 'a model'} with {adapters.get('name') or 'an adapter'}")


def paragraphs(summary: Mapping) -> list[str]:
    """Verdict, items and what could not be measured, a sentence or two each."""
    items, verdict, errors = (summary.get(key) or {} for key in ("items", "verdict", "errors"))
    texts = []
    if summary.get("complete") is False:
        texts.append("This run is not complete: what follows describes only what was measured before it stopped.")
    if summary.get("until") and summary["until"]["says"] not in (verdict.get("sentence") or ""):
        texts.append(summary["until"]["says"])
    texts += [f"Caution: {caution}." for caution in summary.get("cautions") or []]
    if verdict.get("label"):
        texts.append(f"Verdict: {verdict['label']}. {verdict.get('sentence') or ''}")
    tuning = summary.get("tuning") or {}
    if tuning.get("says"):
        texts.append(f"What to do: {' '.join([tuning['says'], *(tuning.get('further') or [])])}")
    if items.get("n") is not None:
        texts.append(
            f"Items: {items.get('name') or 'unnamed'}, {plural(items['n'], 'question')} in "
            f"{plural(items.get('points') or 0, 'knowledge point')}; "
            f"{errors.get('count') or 0} could not be measured under at least one condition."
        )
    if told_questions(summary.get("adapters")):
        texts.append(f"{TOLD_QUESTIONS[0].upper()}{TOLD_QUESTIONS[1:]}.")
    texts.append(f"{capitalised(scale_message(summary.get('handshake')))}.")
    if items.get("prior"):
        texts.append(prior_message(items["prior"]))
    if summary.get("chat"):
        texts += [chat_message(summary["chat"], items.get("n")), *chat_warnings(summary["chat"])]
    if summary.get("refused"):
        texts.append(f"{refusal_message(summary['refused'])}.".replace("not measured", "Not measured"))
    texts.append(
        "Brackets hold 95% intervals clustered by knowledge point, and by relation as well where it is known. Success by top1: "
        "at the first token where the two answers differ, the document's is the model's most likely token (for unrelated "
        "answers, the base model's own)."
    )
    return [plain_text(text) for text in texts]


def hypotheses(summary: Mapping) -> PlainTable:
    """Claims with their status."""
    return PlainTable(
        "Hypotheses",
        "",
        ("id", "claim", "status", "p, Holm"),
        tuple(
            (
                plain_text(row["id"]),
                plain_text(row["claim"]),
                row["status"],
                "" if row.get("p_holm") is None else f"{row['p_holm']:.3g}",
            )
            for row in summary.get("hypotheses") or []
        ),
    )
