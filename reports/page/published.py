"""Published shares beside those measured, where the plan named any."""

from __future__ import annotations

from collections.abc import Mapping

from override_gap.reports.page.table import Table
from override_gap.reports.text import ABSENT, SIZE_HEAD, estimate, size_cell, split_label, untrusted

NOTE = (
    "Within: the published share lies in the 95% interval measured here. What this run does otherwise stands in the last column, "
    "so this is a comparison, not a test of replication."
)
WITHIN = {True: "yes", False: "no", None: ABSENT}


def published(summary: Mapping) -> list[Table]:
    """One table, or none where the plan names no published share."""
    rows = tuple(
        (
            split_label(row["split"]),
            row["tier"] or (f"quarter {row['quartile']} of prior strength" if row["quartile"] else "all"),
            untrusted(row["condition"]),
            row["measure"],
            f"{100 * row['published']:.1f}",
            estimate(row["measured"], "share"),
            size_cell(row["measured"]) if row["measured"] else "not measured",
            WITHIN[row["within"]],
            untrusted(row["source"]),
            untrusted(row.get("differs") or ABSENT),
        )
        for row in summary.get("references") or []
    )
    head = (
        "split",
        "of",
        "condition",
        "measure",
        "published, %",
        "measured, %",
        SIZE_HEAD,
        "within",
        "source",
        "differs here by",
    )
    return [Table("Published shares beside those measured", NOTE, head, rows, open=True)] if rows else []
