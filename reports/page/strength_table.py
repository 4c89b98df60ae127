"""The table of strength: adapters in units of the prior margin, of the weights, and of the gain that breaks the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from override_gap.reports.page.table import Cell, Table
from override_gap.reports.text import ABSENT, SIZE_HEAD, estimate, rounded, size_cell


def strength_table(summary: Mapping) -> Table:
    """What compares across methods, whatever the unit in which an adapter is delivered."""
    return Table(
        "Strength of the adapters as delivered",
        "In units that compare across methods. The mean of ratios is over conflicts that the base knows, where items of a prior "
        "margin near zero count most. Update over weight: root of summed squares of the updates' norms over that of the weights "
        "they change, mean over documents. Gain to break: the first gain read at which a document's own adapter moves the base "
        "by more than 1 nat per token on unrelated questions and text; \u201cabove\u201d where a document's search ended before.",
        ("quantity", "estimate", SIZE_HEAD),
        tuple(_rows(summary.get("strength") or {})),
    )


def _rows(strength: Mapping) -> Iterator[tuple[Cell, ...]]:
    margins = strength.get("adapter_over_prior") or {}
    for key, name in (("ratio_of_means", "ratio of the means"), ("mean_of_ratios", "mean of the items' ratios")):
        if row := margins.get(key):
            yield f"adapter margin / prior margin, {name}", estimate(row), size_cell(row)
    weights = strength.get("update_over_weight") or {}
    if weights:
        yield "update norm / weight norm, all layers", estimate(weights["all"]), size_cell(weights["all"])
        top = max(weights["layers"], key=lambda row: row["value"] or 0.0)
        yield f"the same at layer {top['layer']}, where it is largest", estimate(top), size_cell(top)
    breaking = strength.get("gain_to_break")
    if breaking:
        low, median, high = (_gain(quartile) for quartile in breaking["quartiles"])
        count = f"{breaking['broken']} of {breaking['documents']} documents"
        yield "gain to break the model, median [quartiles]", f"{median} [{low}, {high}]", count


def _gain(quartile: Mapping) -> str:
    value = rounded(quartile["value"]) if quartile["value"] is not None else ABSENT
    return f"above {value}" if quartile["at_least"] else value
