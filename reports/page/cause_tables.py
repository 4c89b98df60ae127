"""Tables of causes: how many failures have each, and examples of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from override_gap.reports.page.table import Table
from override_gap.reports.text import ABSENT, SIZE_HEAD, estimate, rounded, size_cell, untrusted


def cause_tables(summary: Mapping) -> Iterator[Table]:
    """The shares with their intervals, then examples."""
    verdict = summary.get("verdict") or {}
    yield Table(
        "Causes of failure",
        "One cause per failing conflict that the base knows, by the rule in docs/definitions.md; the label is derived from them.",
        ("cause", "what was seen", "failures", "share", SIZE_HEAD),
        tuple(
            (row["cause"], untrusted(row["meaning"]), f"{row['count']:,}", estimate(row, "share"), size_cell(row))
            for row in verdict.get("causes") or []
        ),
        open=True,
    )
    yield Table(
        "Examples of each cause",
        "The first items of each cause by id. Gain: the one that repairs the item, blank where none read does.",
        ("cause", "item", "question", "document's answer", "old answer", "gain"),
        tuple(
            (
                row["cause"],
                *(untrusted(row[name]) for name in ("item", "question", "answer", "prior_answer")),
                ABSENT if row["gain"] is None else rounded(row["gain"]),
            )
            for row in verdict.get("cause_examples") or []
        ),
    )
