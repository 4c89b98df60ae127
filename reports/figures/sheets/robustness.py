"""Does the override hold with several documents, and when the document is repeated, hedged, negated or contested?"""

from __future__ import annotations

from collections.abc import Mapping

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.settle import legend_below
from override_gap.reports.figures.style import (
    ADAPTED,
    INK,
    NARROW,
    NO,
    OTHER,
    WIDE,
    FigureUnavailable,
    canvas,
    figure,
    footnote,
    known_value,
    percent_ticks,
    section,
    size_range,
    whiskers,
    write_size,
)

SWEPT = (
    ("joined", "joined into one adapter", ADAPTED, "o"),
    ("joined-mean", "their factors averaged", OTHER, "^"),
    ("in-context-joined", "in one prompt", INK, "s"),
)
WRONG = ("hedged", "negated")
"""Statements that do not say what the document says: success under them is an error."""


@figure
def robustness(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Success against the number of documents, and under other ways to state one; conflicts, first token."""
    rows = [
        row
        for row in section(summary, "robustness").get("variants") or []
        if row["split"] == "conflict" and row["measure"] == "top1" and known_value(row)
    ]
    if not rows:
        raise FigureUnavailable(
            "no conflict was measured under a variant; add joined, stated, hedged or contested to --probes"
        )
    single_document = {
        row["condition"]: row
        for row in summary["outcomes"]
        if (row["split"], row["tier"], row["measure"], row["population"]) == ("conflict", None, "top1", "all")
    }
    families = [family for family, *_ in SWEPT]
    swept = [row for row in rows if row["family"] in families]
    others = [row for row in rows if row["family"] not in families]
    panels = [(draw, subset) for draw, subset in ((_by_number, swept), (_by_statement, others)) if subset]
    count = len(panels)
    fig = canvas(NARROW, 0.4 + 3.3 * count) if narrow else canvas(WIDE if count == 2 else 4.6, 3.8)
    grid = fig.subplots(*((count, 1) if narrow else (1, count)), squeeze=False).ravel()
    for axes, (draw, subset) in zip(grid, panels, strict=True):
        draw(axes, subset, single_document)
    footnote(fig, "Bars: 95% intervals, clustered by knowledge point or relation (the wider).")
    sns.despine(fig=fig)
    return fig


def _by_number(axes: Axes, rows: list[Mapping], single_document: Mapping[str, Mapping]) -> None:
    """Success per fact against how many documents act together; one document is the plain condition."""
    for family, label, shade, marker in SWEPT:
        subset = sorted((row for row in rows if row["family"] == family), key=lambda row: row["documents"])
        if not subset:
            continue
        reference = single_document.get(subset[0]["reference"])
        marks = [(row["documents"], row) for row in subset]
        if known_value(reference) and {row["n"] for row in subset} == {reference["n"]}:
            marks.insert(0, (1, reference))
        axes.errorbar(
            [count for count, _ in marks],
            [row["value"] for _, row in marks],
            yerr=[[whiskers(row)[side][0] for _, row in marks] for side in (0, 1)],
            fmt=f"{marker}-",
            ms=4.5,
            color=shade,
            elinewidth=1.2,
            label=label,
        )
    counts = sorted({1, *(row["documents"] for row in rows)})
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set(
        ylim=(-0.03, 1.03),
        xlabel="documents together",
        title="By number",
        ylabel="conflicts overridden, asked one by one",
    )
    percent_ticks(axes.yaxis)
    write_size(axes, size_range(row["n"] for row in rows))
    legend_below(axes, WIDE / 2, most=2)


def _by_statement(axes: Axes, rows: list[Mapping], single_document: Mapping[str, Mapping]) -> None:
    """The plain document, then other ways to state it; red where overriding would be wrong."""
    delivered = single_document.get("as-delivered")
    lines = [delivered, *rows] if known_value(delivered) else rows
    for y, row in enumerate(lines):
        shade = NO if row["condition"] in WRONG else OTHER if y else ADAPTED
        axes.errorbar(row["value"], y, xerr=whiskers(row), fmt="o", ms=4.5, elinewidth=1.2, color=shade)
    axes.set_yticks(range(len(lines)), [row["condition"] for row in lines])
    axes.set(
        xlim=(-0.03, 1.03),
        ylim=(len(lines) - 0.4, -0.6),
        xlabel="share that says the document's answer",
        title="By statement",
    )
    percent_ticks(axes.xaxis)
    write_size(axes, size_range(row["n"] for row in lines))


def caption(summary: Mapping) -> Caption:
    """The caption."""
    section(summary, "robustness")
    return Caption(
        title="Does the override hold with several documents, and when it is hedged or contested?",
        shows="By number: each fact's success when the adapters of several documents are joined into one, or the documents share "
        "a prompt. By statement: the document stated several times, as a rumour (hedged), as false (negated), and contradicted "
        "in a second turn (contested). Red: overriding would be wrong there.",
        computed="First token (top1) on all conflicts. Joined adapters are summed, or their factors averaged; "
        "what all documents share is added once. "
        "A single document is drawn only where all numbers of documents were measured on the same conflicts. The "
        "contradiction is plain text before the question, with the adapter attached; contested-base is the base model "
        "after the same words.",
        n="n, above each panel, counts the conflicts that were measured in this way; joining needs enough documents.",
        interval=f"Bars: {SHARE}.",
        refutes="success that falls as documents are added, or that is as high for a rumour or a denial as for the plain "
        "statement: the adapter then carries words, not what they say.",
    )
