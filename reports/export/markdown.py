"""GitHub-flavoured Markdown: the report's tables, and a fragment for an adapter repository's model card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from override_gap.reports.export.plain import PlainTable, heading, hypotheses, paragraphs, plain_tables

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$!@]|(?<=\w):(?=//)|(?<=[Ww]{3})\.)")
"""Characters that can open a span, a link, a cell or a mention; the last two keep addresses from becoming links."""


def escaped(text: str) -> str:
    """Untrusted text as Markdown that shows it unchanged."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", text)


def markdown(summary: Mapping) -> str:
    """The report: verdict, hypotheses and every table."""
    blocks = [f"# Override-gap audit: {escaped(heading(summary))}", *map(escaped, paragraphs(summary))]
    for table in (hypotheses(summary), *plain_tables(summary)):
        if table.rows:
            blocks += [
                f"## {escaped(table.title)}",
                *([escaped(table.note)] if table.note else []),
                markdown_table(table),
            ]
    return "\n\n".join(blocks) + "\n"


def markdown_table(table: PlainTable) -> str:
    """One table, its cells escaped."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(escaped(cell) for cell in cells) + " |"

    return "\n".join([line(table.head), "|" + " --- |" * len(table.head), *map(line, table.rows)])


def _adapter_form(adapters: Mapping) -> str:
    if adapters.get("static") is not False:
        return f"rank {adapters.get('rank')}"
    return f"prefixes of up to {adapters['prefix']} positions" if adapters.get("prefix") else "run as delivered"


def model_card(summary: Mapping) -> str:
    """A section for the README of an adapter repository: verdict, success as delivered, what was measured."""
    adapters, subject = (summary.get(key) or {} for key in ("adapters", "subject"))
    success = next((table for table in plain_tables(summary) if table.title.startswith("Success by first token")), None)
    blocks = ["## Does it override what the base model believes?", *map(escaped, paragraphs(summary))]
    if success:
        delivered = tuple(row for row in success.rows if row[0] in ("base", "as-delivered"))
        blocks.append(markdown_table(PlainTable(success.title, success.note, success.head, delivered or success.rows)))
    sentences = (
        f"Base model: {subject.get('name')}, fingerprint {str(subject.get('fingerprint'))[:16]}.",
        f"Adapters: {adapters.get('name')}, {_adapter_form(adapters)}, {adapters.get('documents')} documents.",
        "Measured with override-gap; the same numbers are in the run's summary.json.",
    )
    return "\n\n".join([*blocks, *(escaped(" ".join(sentence.split())) for sentence in sentences)]) + "\n"
