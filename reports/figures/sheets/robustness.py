"""Does the override hold in company, repeated, hedged, denied and contested?"""

from __future__ import annotations

from collections.abc import Mapping

import seaborn as sns
from matplotlib.figure import Figure

from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.style import (
    ADAPTED,
    INK,
    NO,
    OTHER,
    FigureUnavailable,
    canvas,
    figure,
    footnote,
    known_value,
    percent,
    section,
    whiskers,
)

SWEPT = (("joined", "joined into one adapter", ADAPTED, "o"), ("in-context-joined", "in one prompt", INK, "s"))
WRONG = ("hedged", "negated")
"""Statements that do not say what the document says: success under these is an error."""


@figure
def robustness(run, summary: Mapping) -> Figure:
    """Success against the number of documents, and under documents put in other ways; conflicts, first token."""
    rows = [
        row
        for row in section(summary, "robustness").get("variants") or []
        if row["split"] == "conflict" and row["measure"] == "top1" and known_value(row)
    ]
    if not rows:
        raise FigureUnavailable(
            "no conflict was measured under a variant; add joined, stated, hedged or contested to --probes"
        )
    plain = {
        row["condition"]: row
        for row in summary["outcomes"]
        if (row["split"], row["tier"], row["measure"], row["population"]) == ("conflict", None, "top1", "all")
    }
    families = [family for family, *_ in SWEPT]
    swept, others = ([row for row in rows if (row["family"] in families) is inside] for inside in (True, False))
    shown = [panel for panel, part in ((_numbers, swept), (_ways, others)) if part]
    made = canvas(3.7 * len(shown), 3.4)
    for axes, panel in zip(made.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        panel(axes, swept if panel is _numbers else others, plain)
    footnote(made, "Bars: 95% intervals clustered by knowledge point.")
    sns.despine(fig=made)
    return made


def _numbers(axes, rows: list[Mapping], plain: Mapping[str, Mapping]) -> None:
    """Per-fact success against how many documents act together; one document is the plain condition."""
    for family, label, shade, marker in SWEPT:
        own = sorted((row for row in rows if row["family"] == family), key=lambda row: row["documents"])
        if not own:
            continue
        alone = plain.get(own[0]["reference"])
        points = [(row["documents"], row) for row in own]
        if known_value(alone) and {row["n"] for row in own} == {alone["n"]}:
            points.insert(0, (1, alone))
        axes.errorbar(
            [count for count, _ in points],
            [row["value"] for _, row in points],
            yerr=[[whiskers(row)[side][0] for _, row in points] for side in (0, 1)],
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
    axes.set(ylim=(-0.03, 1.03), xlabel="documents together", ylabel="conflicts overridden, each asked alone")
    percent(axes.yaxis)
    _counted(axes, rows)
    axes.legend(loc="best", frameon=True)


def _ways(axes, rows: list[Mapping], plain: Mapping[str, Mapping]) -> None:
    """The plain document, then the same put in other ways; where overriding would be wrong the mark is red."""
    own = [*([plain["as-delivered"]] if known_value(plain.get("as-delivered")) else []), *rows]
    for place, row in enumerate(own):
        shade = NO if row["condition"] in WRONG else OTHER if place else ADAPTED
        axes.errorbar(row["value"], place, xerr=whiskers(row), fmt="o", ms=4.5, elinewidth=1.2, color=shade)
    axes.set_yticks(range(len(own)), [row["condition"] for row in own])
    axes.set(xlim=(-0.03, 1.03), ylim=(len(own) - 0.4, -0.6), xlabel="share that says the document's answer")
    percent(axes.xaxis)
    _counted(axes, own)


def _counted(axes, rows: list[Mapping]) -> None:
    """The range of n over a panel's rows."""
    sizes = sorted({row["n"] for row in rows})
    text = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    axes.set_title(f"n = {text}", loc="right", fontsize=7, fontweight="normal")


def caption(summary: Mapping) -> Caption:
    """In words."""
    section(summary, "robustness")
    return Caption(
        title="Does the override hold in company, repeated, hedged and contested?",
        shows="Left: each fact's success when the adapters of several documents are joined into one, or the documents stand "
        "in one prompt. Right: the document stated several times, as a rumour, denied, and after a second turn that "
        "contradicts it. Red: overriding would be wrong there.",
        computed="First token (top1) on all conflicts. Joined adapters add up; the part that every document shares acts "
        "once; one document alone stands there only where all numbers were measured on the same conflicts. The contested "
        "turn is plain text in front of the question, with the adapter acting; contested-base is the base behind the "
        "same words.",
        n="n, above each panel, counts the conflicts that could be measured so; joining needs enough documents in a unit.",
        interval=f"Bars: {SHARE}.",
        refutes="success that falls as documents are added, or that is as high for a rumour or a denial as for the plain "
        "statement: the adapter then carries words, not what they say.",
    )
