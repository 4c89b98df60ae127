"""Where do the three measures of success disagree?"""

from __future__ import annotations

from collections.abc import Mapping

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.style import (
    ADAPTED,
    GRID,
    INK,
    OTHER,
    PAPER,
    FigureUnavailable,
    canvas,
    figure,
    footnote,
    known_value,
    percent_ticks,
    plain_label,
    section,
    size_text,
    whiskers,
    write_size,
)

NAMES = ("margin", "top1", "answer")
COMPARED = (("margin", "top1", "o", ADAPTED), ("top1", "answer", "D", OTHER))


@figure
def disagreement(run: RunFrame, summary: Mapping) -> Figure:
    """Which measures agree as delivered, and on how many conflicts two of them disagree under each condition."""
    measures = section(summary, "measures")
    patterns = [row for row in measures["patterns"] if known_value(row)]
    pairs = [row for row in measures["pairs"] if known_value(row)]
    if not pairs:
        raise FigureUnavailable("no conflict was measured by two measures of success")
    order = list(dict.fromkeys(row["condition"] for row in pairs))
    fig = canvas(7.4, max(2.9, 1.5 + 0.17 * len(order)))
    marks, shares, right = fig.subplots(1, 3, width_ratios=(0.5, 1.2, 1.3))
    _matrix(marks, patterns)
    _shares(shares, patterns)
    _pairs(right, pairs, order)
    footnote(
        fig,
        "Bars: 95% intervals, clustered by knowledge point or relation (the wider). "
        "Filled: the measure counts a success; open: it does not.",
    )
    sns.despine(fig=fig)
    sns.despine(ax=marks, left=True, bottom=True)
    return fig


def _matrix(axes: Axes, patterns: list[Mapping]) -> None:
    """One dot per measure and pattern; none for a measure that was not measured."""
    for y, row in enumerate(patterns):
        for column, name in enumerate(NAMES):
            if row[name] is not None:
                axes.plot(column, y, "o", ms=7, mec=INK, mfc=INK if row[name] else PAPER, mew=0.9)
    axes.set(xlim=(-0.6, 2.6), ylim=(max(len(patterns), 6) - 0.4, -0.6), yticks=[])
    axes.xaxis.tick_top()
    axes.set_xticks(range(3), NAMES, rotation=45, ha="left")
    axes.grid(False)
    axes.tick_params(length=0)


def _shares(axes: Axes, patterns: list[Mapping]) -> None:
    """The share of each pattern with its interval and count."""
    for y, row in enumerate(patterns):
        axes.errorbar(row["value"], y, xerr=whiskers(row), fmt="o", ms=4.5, elinewidth=1.3, color=ADAPTED)
        on_right = row["value"] < 0.6
        axes.annotate(
            f"{row['count']}",
            (row["high"] if on_right and row["high"] is not None else row["low"] or row["value"], y),
            (4 if on_right else -4, 0),
            textcoords="offset points",
            ha="left" if on_right else "right",
            va="center",
            fontsize=7.5,
        )
    axes.set(
        xlim=(-0.03, 1.05),
        ylim=(max(len(patterns), 6) - 0.4, -0.6),
        xticks=[0, 0.5, 1],
        yticks=range(len(patterns)),
        yticklabels=[],
        xlabel="share of conflicts",
    )
    percent_ticks(axes.xaxis)
    if patterns:
        write_size(axes, size_text(patterns[0]["n"], patterns[0]["points"]))
    axes.set_title("As delivered")


def _pairs(axes: Axes, pairs: list[Mapping], order: list[str]) -> None:
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
        sizes.append(f"{max(row['n'] for row in rows):,}")
        largest = max([largest, *(row["high"] if row["high"] is not None else row["value"] for row in rows)])
    axes.set_yticks(range(len(order)), [plain_label(name, 20) for name in order])
    axes.tick_params(axis="y", labelsize=7)
    limit = min(1.05, max(0.1, 1.08 * largest))
    axes.set(xlim=(-0.03 * limit, limit), ylim=(len(order) - 0.4, -0.6), xlabel="share that disagrees")
    axes.set_title("By condition")
    write_size(axes, f"n = {' and '.join(sizes)}")
    axes.grid(axis="y", color=GRID)
    percent_ticks(axes.xaxis)
    # A fixed distance below the axis, whatever its height.
    below = axes.transAxes + ScaledTranslation(0, -32 / 72, axes.figure.dpi_scale_trans)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, ncols=2, frameon=False)


def caption(summary: Mapping) -> Caption:
    """The caption."""
    section(summary, "measures")
    return Caption(
        title="Where do the three measures of success disagree?",
        shows="Left: each combination of the measures that occurs among the conflicts as delivered, with its share and "
        "count. Right: the share of conflicts on which two measures disagree, under each condition.",
        computed="margin: net margin above zero; top1: the document's token is the most likely of all; answer: the "
        "greedy answer says the document's answer. A success by top1 implies one by margin. Where the answer is "
        "compared, only the items that were also answered in words enter.",
        n="n is stated on each panel: on the right, the conflicts with margin and top1, and those with an answer.",
        interval=f"Bars: {SHARE}.",
        refutes="disagreement as large as the effect that is claimed: the conclusion would then depend on the measure chosen.",
    )
