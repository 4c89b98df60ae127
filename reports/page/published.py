"""Published shares beside those measured, where the plan named any."""

from __future__ import annotations

from collections.abc import Mapping

from override_gap.reports.page.tables import Table
from override_gap.reports.text import counted, estimate, said

NOTE = (
    "Within: the published share lies in the 95% interval measured here. The published items may be others than these, "
    "so this compares; it does not test a replication."
)
HOLDS = {True: "yes", False: "no", None: "\u2013"}


def published(summary: Mapping) -> list[Table]:
    """One table, or none where the plan has no references."""
    rows = tuple(
        (
            row["split"],
            row["tier"] or (f"quartile {row['quartile']} of prior strength" if row["quartile"] else "all"),
            said(row["condition"]),
            row["measure"],
            f"{100 * row['published']:.1f}",
            estimate(row["measured"], "share"),
            counted(row["measured"]) if row["measured"] else "not measured",
            HOLDS[row["within"]],
            said(row["source"]),
        )
        for row in summary.get("references") or []
    )
    head = ("split", "of", "condition", "measure", "published, %", "measured, %", "n", "within", "source")
    return [Table("Published shares beside those measured", NOTE, head, rows, open=True)] if rows else []
