"""Tables of gains: where failures flip, and policies against the uniform gain that costs as much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from override_gap.reports.page.table import Table
from override_gap.reports.text import SIZE_HEAD, estimate, p_cell, rounded, size_cell, untrusted


def gain_table(summary: Mapping) -> Table:
    """Half gain and critical gains."""
    dose = summary.get("dose") or {}
    critical = dose.get("critical") or {}
    quantities: tuple[tuple[str, Mapping | None, str], ...] = (
        ("gain at which half of the failures flip", dose.get("half_gain"), "number"),
        ("critical gain, measured, median", critical.get("measured_median"), "number"),
        ("critical gain, predicted, median", critical.get("predicted_median"), "number"),
        ("not fixed by any gain in range", critical.get("not_rescuable"), "share"),
        ("measured over predicted critical gain, median", critical.get("linearity"), "number"),
    )
    rows = tuple((name, estimate(row, kind), size_cell(row)) for name, row, kind in quantities if row)
    return Table("Gains at which failures flip", "", ("quantity", "estimate", SIZE_HEAD), rows)


def matched_gain_tables(summary: Mapping) -> Iterator[Table]:
    """Policies minus the uniform gain that keeps as many unrelated answers, then what every condition gets and costs."""
    matched = summary.get("matched_retention") or {}
    yield Table(
        "Policies against uniform scaling that keeps as many unrelated answers",
        "Positive: the policy overrides more conflicts than uniform scaling at the gain that keeps the same share of "
        "unrelated answers (the matched gain).",
        ("condition", "matched gain", "difference in conflicts overridden", "p", SIZE_HEAD, "note"),
        tuple(
            (
                untrusted(row["condition"]),
                rounded(row.get("matched_gain")),
                estimate(row.get("difference"), "points"),
                p_cell(row.get("p")),
                size_cell(row.get("difference")),
                untrusted(row.get("note") or None),
            )
            for row in matched.get("comparisons") or []
        ),
        open=True,
    )
    yield Table(
        "What each condition overrides, keeps and recalls",
        "Per cent by top1.",
        ("condition", "conflicts overridden", "unrelated answers kept", "novel facts recalled"),
        tuple(
            (
                untrusted(row["condition"]),
                *(estimate(row.get(key), "share") for key in ("override", "retention", "novel")),
            )
            for row in matched.get("frontier") or []
        ),
    )
