"""The table of null adapters: what the method's own adapters achieve beyond those that cannot hold the item's answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from override_gap.reports.page.table import Cell, Table
from override_gap.reports.text import SIZE_HEAD, estimate, rounded, size_cell, untrusted


def null_table(summary: Mapping) -> Table:
    """Own minus null over failing conflicts that the base knows, paired by item."""
    rows = (summary.get("verdict") or {}).get("null") or []
    return Table(
        "Own adapters against null adapters",
        " ".join(row["sentence"] for row in rows)
        + " Failing conflicts that the base knows, each searched under both until its answer comes first with content or the "
        "acting adapter breaks the model. Held: the answer comes first and rose more than nearly all other documents' answers, "
        "at a gain that does not break the model; rescued: it comes first. Push: at the largest gain that both were read at, up "
        "to the own adapter's first held one.",
        ("null", "quantity", "own", "null", "own \u2212 null", SIZE_HEAD),
        tuple(cells for row in rows for cells in _rows(row)),
        open=True,
    )


def _rows(row: Mapping) -> Iterator[tuple[Cell, ...]]:
    for key in ("held", "rescued"):
        shares = row[key]
        yield (
            untrusted(row["condition"]),
            key,
            estimate(shares["own"], "share"),
            estimate(shares["null"], "share"),
            estimate(shares["difference"], "points"),
            size_cell(row),
        )
    push = row["push"]
    at = "" if push["median_gain"] is None else f", at gain {rounded(push['median_gain'])} (median)"
    pushes = (estimate(push[key]) for key in ("own", "null", "difference"))
    yield untrusted(row["condition"]), f"push, nats{at}", *pushes, size_cell(push["difference"])
