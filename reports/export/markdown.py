"""GitHub-flavoured Markdown: the report's tables, and a fragment for an adapter repository's model card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from override_gap.reports.export.plain import Plain, heading, hypotheses, paragraphs, plain_tables

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$!@]|(?<=\w):(?=//)|(?<=[Ww]{3})\.)")
"""What can open a span, a link, a cell or a mention; the last two keep addresses from becoming links by themselves."""


def escaped(text: str) -> str:
    """Someone else's text as Markdown that shows it as it stands."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", text)


def markdown(summary: Mapping) -> str:
    """The report: verdict, hypotheses, every table."""
    parts = [f"# Override-gap audit: {escaped(heading(summary))}", *map(escaped, paragraphs(summary))]
    for table in (hypotheses(summary), *plain_tables(summary)):
        if table.rows:
            parts += [f"## {escaped(table.title)}", *([escaped(table.note)] if table.note else []), grid(table)]
    return "\n\n".join(parts) + "\n"


def grid(table: Plain) -> str:
    """One table."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(escaped(cell) for cell in cells) + " |"

    return "\n".join([line(table.head), "|" + " --- |" * len(table.head), *map(line, table.rows)])


def _kind(adapters: Mapping) -> str:
    if adapters.get("static") is not False:
        return f"rank {adapters.get('rank')}"
    return f"prefixes of up to {adapters['prefix']} positions" if adapters.get("prefix") else "run as delivered"


def model_card(summary: Mapping) -> str:
    """A section for the README of an adapter repository: verdict, success as delivered, how to make it again."""
    adapters, subject = (summary.get(key) or {} for key in ("adapters", "subject"))
    first = next((own for own in plain_tables(summary) if own.title.startswith("Success by first token")), None)
    parts = ["## Does it override what the base model believes?", *map(escaped, paragraphs(summary))]
    if first:
        kept = tuple(row for row in first.rows if row[0] in ("base", "as-delivered"))
        parts.append(grid(Plain(first.title, first.note, first.head, kept or first.rows)))
    facts = (
        f"Base model: {subject.get('name')}, fingerprint {str(subject.get('fingerprint'))[:16]}.",
        f"Adapters: {adapters.get('name')}, {_kind(adapters)}, {adapters.get('documents')} documents.",
        "Measured with override-gap; the same figures are in the summary.json of the run.",
    )
    return "\n\n".join([*parts, *(escaped(" ".join(fact.split())) for fact in facts)]) + "\n"
