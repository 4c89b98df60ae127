"""Where do the three measures of success disagree?"""

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
    GRID,
    INK,
    NARROW,
    OTHER,
    PAPER,
    WIDE,
    FigureUnavailable,
    canvas,
    figure,
    footnote,
    known_value,
    percent_ticks,
    plain_label,
    section,
    size_range,
    size_text,
    whiskers,
    write_size,
)

NAMES = ("margin", "top1", "answer")
COMPARED = (("margin", "top1", "o", ADAPTED), ("top1", "answer", "D", OTHER))


@figure
def disagreement(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Which measures agree as delivered, and on how many conflicts two of them disagree under each condition."""
    measures = section(summary, "measures")
    patterns = [row for row in measures["patterns"] if known_value(row)]
    pairs = [row for row in measures["pairs"] if known_value(row)]
    if not pairs:
        raise FigureUnavailable("no conflict was measured by two measures of success")
    order = list(dict.fromkeys(row["condition"] for row in pairs))
    heights = [1.0 + 0.24 * len(patterns)] * bool(patterns) + [1.2 + 0.17 * len(order)]
    fig = canvas(NARROW if narrow else WIDE, sum(heights) + 0.2)
    layout: list = [["marks", "shares"], ["pairs", "pairs"]] if patterns else [["pairs"]]
    panels = fig.subplot_mosaic(
        layout, height_ratios=heights, width_ratios=((1.6, 1.8) if narrow else (1.5, 4)) if patterns else None
    )
    if patterns:
        _matrix(panels["marks"], patterns)
        _shares(panels["shares"], patterns)
    _pairs(panels["pairs"], pairs, order, NARROW if narrow else WIDE)
    footnote(
        fig,
        "Bars: 95% intervals, clustered by knowledge point or relation (the wider). "
        "Filled: the measure counts a success; open: it does not.",
    )
    sns.despine(fig=fig)
    if patterns:
        sns.despine(ax=panels["marks"], left=True, bottom=True)
    return fig


def _matrix(axes: Axes, patterns: list[Mapping]) -> None:
    """One dot per measure and pattern; none for a measure that was not measured."""
    for y, row in enumerate(patterns):
        for column, name in enumerate(NAMES):
            if row[name] is not None:
                axes.plot(column, y, "o", ms=7, mec=INK, mfc=INK if row[name] else PAPER, mew=0.9)
    axes.set(xlim=(-0.6, 2.6), ylim=(len(patterns) - 0.4, -0.6), yticks=[])
    axes.xaxis.tick_top()
    axes.set_xticks(range(3), NAMES, fontsize=7)
    axes.grid(False)
    axes.tick_params(length=0)


def _shares(axes: Axes, patterns: list[Mapping]) -> None:
    """The share of each pattern with its interval and count."""
    for y, row in enumerate(patterns):
        axes.errorbar(row["value"], y, xerr=whiskers(row), fmt="o", ms=4.5, elinewidth=1.3, color=ADAPTED)
    axes.set(
        xlim=(-0.03, 1.05),
        ylim=(len(patterns) - 0.4, -0.6),
        xticks=[0, 0.5, 1],
        yticks=range(len(patterns)),
        yticklabels=[f"{row['count']:,}" for row in patterns],
        xlabel="share of conflicts",
    )
    percent_ticks(axes.xaxis)
    write_size(axes, size_text(patterns[0]["n"], patterns[0]["points"]))
    axes.set_title("As delivered")


def _pairs(axes: Axes, pairs: list[Mapping], order: list[str], width: float) -> None:
    """The share of conflicts on which two measures disagree, per condition."""
    largest = 0.0
    sizes = []
    for first, second, marker, shade in COMPARED:
        rows = [row for row in pairs if (row["first"], row["second"]) == (first, second)]
        if not rows:
            continue
        shift = -0.16 if marker == "o" else 0.16
        axes.errorbar(
            [row["value"] for row in rows],
            [order.index(row["condition"]) + shift for row in rows],
            xerr=[[whiskers(row)[side][0] for row in rows] for side in (0, 1)],
            fmt=marker,
            ms=3.6,
            elinewidth=1.1,
            color=shade,
            mfc=shade if marker == "o" else PAPER,
            label=f"{first} \u2260 {second}",
        )
        sizes.append(size_range(row["n"] for row in rows).removeprefix("n = "))
        largest = max([largest, *(row["high"] if row["high"] is not None else row["value"] for row in rows)])
    axes.set_yticks(range(len(order)), [plain_label(name, 20) for name in order])
    axes.tick_params(axis="y", labelsize=7)
    limit = min(1.05, max(0.1, 1.08 * largest))
    axes.set(xlim=(-0.03 * limit, limit), ylim=(len(order) - 0.4, -0.6), xlabel="share that disagrees")
    axes.set_title("By condition")
    write_size(axes, f"n = {' and '.join(sizes)}")
    axes.grid(axis="y", color=GRID)
    percent_ticks(axes.xaxis)
    legend_below(axes, width)


def caption(summary: Mapping) -> Caption:
    """The caption."""
    section(summary, "measures")
    return Caption(
        title="Where do the three measures of success disagree?",
        shows="Above: each combination of the measures that occurs among the conflicts as delivered, with its count and "
        "share. Below: the share of conflicts on which two measures disagree, under each condition.",
        computed="margin: net margin above zero; top1: the document's token is the most likely of all; answer: the "
        "greedy answer says the document's answer. A success by top1 implies one by margin. Where the answer is "
        "compared, only the items that were also answered in words enter.",
        n="n stands above the shares and above the conditions: there, the conflicts with margin and top1, and those with an "
        "answer.",
        interval=f"Bars: {SHARE}.",
        refutes="disagreement as large as the effect that is claimed: the conclusion would then depend on the measure chosen.",
    )
