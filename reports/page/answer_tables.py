"""Tables of answers: where the measures of success disagree, and answers drawn at a temperature."""

from __future__ import annotations

from collections.abc import Mapping

from override_gap.reports.page.table import Table
from override_gap.reports.text import SIZE_HEAD, estimate, rounded, size_cell, split_label, untrusted


def disagreement_table(summary: Mapping) -> Table:
    """Disagreements of the measures, by kind."""
    return Table(
        "Where margin, first token and answer disagree",
        "Conflicts answered in words on which some of the three measures count a success and some a failure, by the "
        "first kind that applies.",
        ("condition", "kind", "items", "of"),
        tuple(
            (untrusted(row["condition"]), row["kind"], rounded(row["count"]), rounded(row["n"]))
            for row in summary.get("disagreements") or []
        ),
    )


def drawn_answer_table(summary: Mapping) -> Table:
    """Success of answers drawn at random, beside the greedy answer."""
    return Table(
        "Answers drawn at a temperature",
        "Mean share of an item's draws that name the document's answer; greedy: the greedy answer on the same items; "
        "unanimous: the share of items whose draws all succeed or all fail.",
        ("split", "condition", "temperature", "draws", "success", "greedy", "unanimous", SIZE_HEAD),
        tuple(
            (
                split_label(row["split"]),
                untrusted(row["condition"]),
                rounded(row["temperature"]),
                rounded(row["draws"]),
                estimate(row, "share"),
                estimate(row["greedy"], "share"),
                f"{row['unanimous']:.0%}",
                size_cell(row),
            )
            for row in summary.get("sampled") or []
        ),
    )
