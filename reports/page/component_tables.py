"""Tables of components: the parts of the adapter margin, and the heads whose share of the margin changes most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from override_gap.reports.page.table import Table
from override_gap.reports.text import SIZE_HEAD, capitalised, estimate, rounded, size_cell

PARTS = {
    "change": "adapter margin",
    "own": "updates, on the base's stream",
    "rest": "updates, on what changed below",
    "response": "the base's own layers, on what changed below",
    "response, attention": "of these, attention",
    "response, mlp": "of these, MLP",
    "norm": "scale of the final norm",
}


def component_tables(summary: Mapping) -> Iterator[Table]:
    """The parts of the adapter margin in all, then heads."""
    parts = summary.get("components") or {}
    totals = {row["part"]: row for row in parts.get("totals") or []}
    slopes = {row["part"]: row for row in parts.get("slopes") or []}
    note = capitalised(str(parts.get("note") or ""))
    yield Table(
        "Parts of the adapter margin",
        "Means over conflicts in nats, before any logit cap, with 95% intervals. Per nat of prior: its slope over items on "
        f"the prior margin; the slopes of an adapter whose margin does not depend on the prior add up to 0. {note}.",
        ("part", "nats", "per nat of prior", SIZE_HEAD),
        tuple(
            (label, estimate(totals[key]), estimate(slopes.get(key)), size_cell(totals[key]))
            for key, label in PARTS.items()
            if key in totals
        ),
    )
    yield Table(
        "Heads of attention whose share of the margin changes most",
        "Chosen by the mean change on these conflicts, so that their sizes are too large; nats, positive towards the document's "
        "answer.",
        ("layer", "head", "change", "by its updates", "by the stream, without updates"),
        tuple(
            (
                rounded(row["layer"]),
                rounded(row["head"]),
                *(estimate({**row[key], "value": row[key]["mean"]}) for key in ("change", "own", "response")),
            )
            for row in parts.get("heads") or []
        ),
    )
