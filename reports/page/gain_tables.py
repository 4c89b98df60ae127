"""Tables of gains: where failures flip, and policies against the uniform gain that costs as much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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


def search_cost_table(summary: Mapping) -> Table:
    """What the adapters of failing conflicts cost at the searched gains."""
    searched = (summary.get("verdict") or {}).get("searched") or {}
    return Table(
        "What the searched gains cost",
        "Means over the documents of the failing conflicts, each adapter read on a few questions that its document is not about "
        "and on the base's own text: other questions and other adapters than in the table of what each condition keeps. Gains at "
        "which only some of the documents were read are left out. Broken: above 1 nat per token.",
        ("gain", "KL to the base", "answers kept", "documents broken", "documents"),
        tuple(
            (
                rounded(row["gain"]),
                estimate(row["kl"], "number"),
                estimate(row["kept"], "share"),
                f"{row['broken']:,}",
                f"{row['documents']:,}",
            )
            for row in searched.get("costs") or []
        ),
    )


def matched_gain_tables(summary: Mapping) -> Iterator[Table]:
    """Policies minus the uniform gain of equal cost, those that have no price, then what every condition gets and costs."""
    matched = summary.get("matched_retention") or {}
    yield _policies(
        matched.get("comparisons"),
        "Policies against uniform scaling that keeps as many unrelated answers",
        "Positive: the policy overrides more conflicts than uniform scaling at the gain that keeps the same share of "
        "unrelated answers (the matched gain).",
    )
    yield _policies(
        matched.get("kl"),
        "Policies against uniform scaling that moves the base as far",
        "Positive: the policy overrides more conflicts than uniform scaling at the gain that has the same mean KL to the base "
        "on unrelated questions. KL sees changes that leave the first choice as it is.",
    )
    yield Table(
        "Policies without a price",
        "What the policy depends on is not known in use for these unrelated questions. Where they are more than one in twenty, "
        "the policy is in no comparison at equal cost.",
        ("condition", "unrelated questions", "reason"),
        tuple(
            (untrusted(row["condition"]), f"{row['n']:,} of {row['of']:,}", untrusted(row["reason"]))
            for row in matched.get("refused") or []
        ),
    )
    yield Table(
        "What each condition overrides, keeps and recalls",
        "Per cent by top1; KL to the base on unrelated questions in nats per token.",
        ("condition", "conflicts overridden", "unrelated answers kept", "KL to the base", "novel facts recalled"),
        tuple(
            (
                untrusted(row["condition"]),
                estimate(row.get("override"), "share"),
                estimate(row.get("retention"), "share"),
                estimate(row.get("kl"), "number"),
                estimate(row.get("novel"), "share"),
            )
            for row in matched.get("frontier") or []
        ),
    )


def _policies(rows: Sequence[Mapping] | None, title: str, meaning: str) -> Table:
    """Policies minus uniform scaling at one equal cost."""
    return Table(
        title,
        meaning,
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
            for row in rows or []
        ),
        open=True,
    )
