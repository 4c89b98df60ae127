"""Where do the three measures of success disagree?"""

from __future__ import annotations

from collections.abc import Mapping

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.style import (
    ADAPTED,
    GRID,
    INK,
    OTHER,
    PAPER,
    FigureUnavailable,
    canvas,
    count,
    figure,
    footnote,
    known_value,
    percent,
    plain,
    section,
    whiskers,
)

NAMES = ("margin", "top1", "answer")
COMPARED = (("margin", "top1", "o", ADAPTED), ("top1", "answer", "D", OTHER))


@figure
def disagreement(run, summary: Mapping) -> Figure:
    """Which measures hold together as delivered, and on how many conflicts two of them disagree under each condition."""
    found = section(summary, "measures")
    patterns = [row for row in found["patterns"] if known_value(row)]
    pairs = [row for row in found["pairs"] if known_value(row)]
    if not pairs:
        raise FigureUnavailable("no conflict was measured by two measures of success")
    order = list(dict.fromkeys(row["condition"] for row in pairs))
    made = canvas(7.4, max(2.9, 1.5 + 0.17 * len(order)))
    marks, shares, right = made.subplots(1, 3, width_ratios=(0.5, 1.2, 1.3))
    _matrix(marks, patterns)
    _shares(shares, patterns)
    _pairs(right, pairs, order)
    footnote(
        made,
        "Bars: 95% intervals clustered by knowledge point. Filled: the measure counts a success; open: it does not.",
    )
    sns.despine(fig=made)
    sns.despine(ax=marks, left=True, bottom=True)
    return made


def _matrix(axes, patterns: list[Mapping]) -> None:
    """A dot per measure and pattern; a measure that was not taken has none."""
    for place, row in enumerate(patterns):
        for column, name in enumerate(NAMES):
            if row[name] is not None:
                axes.plot(column, place, "o", ms=7, mec=INK, mfc=INK if row[name] else PAPER, mew=0.9)
    axes.set(xlim=(-0.6, 2.6), ylim=(max(len(patterns), 6) - 0.4, -0.6), yticks=[])
    axes.xaxis.tick_top()
    axes.set_xticks(range(3), NAMES, rotation=45, ha="left")
    axes.grid(False)
    axes.tick_params(length=0)


def _shares(axes, patterns: list[Mapping]) -> None:
    for place, row in enumerate(patterns):
        axes.errorbar(row["value"], place, xerr=whiskers(row), fmt="o", ms=4.5, elinewidth=1.3, color=ADAPTED)
        right = row["value"] < 0.6
        axes.annotate(
            f"{row['count']}",
            (row["high"] if right and row["high"] is not None else row["low"] or row["value"], place),
            (4 if right else -4, 0),
            textcoords="offset points",
            ha="left" if right else "right",
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
    percent(axes.xaxis)
    if patterns:
        count(axes, patterns[0]["n"], patterns[0]["points"])
    axes.set_title("As delivered")


def _pairs(axes, pairs: list[Mapping], order: list[str]) -> None:
    top = 0.0
    sizes = []
    for first, second, marker, shade in COMPARED:
        own = [row for row in pairs if (row["first"], row["second"]) == (first, second)]
        if not own:
            continue
        shift = -0.16 if marker == "o" else 0.16
        axes.errorbar(
            [row["value"] for row in own],
            [order.index(row["condition"]) + shift for row in own],
            xerr=[[whiskers(row)[side][0] for row in own] for side in (0, 1)],
            fmt=marker,
            ms=3.6,
            elinewidth=1.1,
            color=shade,
            mfc=shade if marker == "o" else PAPER,
            label=f"{first} \u2260 {second}",
        )
        sizes.append(f"{max(row['n'] for row in own):,}")
        top = max([top, *(row["high"] if row["high"] is not None else row["value"] for row in own)])
    axes.set_yticks(range(len(order)), [plain(name, 20) for name in order])
    axes.tick_params(axis="y", labelsize=7)
    end = min(1.05, max(0.1, 1.08 * top))
    axes.set(xlim=(-0.03 * end, end), ylim=(len(order) - 0.4, -0.6), xlabel="share that disagrees")
    axes.set_title("By condition")
    axes.set_title(f"n = {' and '.join(sizes)}", loc="right", fontsize=7, fontweight="normal")
    axes.grid(axis="y", color=GRID)
    percent(axes.xaxis)
    # so far below the axis, whatever its height
    below = axes.transAxes + ScaledTranslation(0, -32 / 72, axes.figure.dpi_scale_trans)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, ncols=2, frameon=False)


def caption(summary: Mapping) -> Caption:
    """In words."""
    section(summary, "measures")
    return Caption(
        title="Where do the three measures of success disagree?",
        shows="Left: each combination of the measures that occurs among the conflicts as delivered, with its share and "
        "count. Right: the share of conflicts on which two measures disagree, under each condition.",
        computed="margin: net margin above zero; top1: the document's token is the most likely of all; answer: the "
        "greedy answer says the document's answer. top1 without margin cannot be. Only the items that were also "
        "answered in words enter where the answer is compared.",
        n="n is stated on each panel: on the right, the conflicts with margin and top1, and those with an answer.",
        interval=f"Bars: {SHARE}.",
        refutes="disagreement as large as the effect that is claimed: the conclusion would then hang on the measure chosen.",
    )
