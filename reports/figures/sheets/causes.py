"""Why do the failing conflicts fail, and does the cause depend on prior strength?"""

from __future__ import annotations

from collections.abc import Mapping

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.caption import Caption
from override_gap.reports.figures.settle import legend_outside, settle
from override_gap.reports.figures.style import (
    GRID,
    NARROW,
    PAPER,
    WIDE,
    FigureUnavailable,
    canvas,
    figure,
    footnote,
    percent_ticks,
)

#: The first three are repaired by a gain: shades of blue. The others are not: from red (nothing to scale) to grey (open).
COLOURS = {
    "too weak": "#0173b2", "at a price": "#56b4e9", "too strong": "#9fd3f0", "third token": "#029e73", "saturates": "#de8f05",
    "broken first": "#ca9161", "no content": "#b3432b", "undecided": "#949494",
}  # fmt: skip
GROUPS = {
    "all": "all failures",
    "Q1": "Q1, weakest prior",
    "Q2": "Q2",
    "Q3": "Q3",
    "Q4": "Q4, strongest prior",
}
NO_SEARCH = "no failing conflict was searched for a gain that repairs it"


@figure
def causes(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """One stacked bar of causes over all failing conflicts that the base knows, and one per quarter of prior strength."""
    rows = _rows(summary)
    groups = [name for name in GROUPS if any(row["group"] == name for row in rows)]
    fig = canvas(NARROW if narrow else WIDE, 1.7 + (0.5 if narrow else 0.36) * len(groups))
    axes = fig.subplots()
    sizes = [next(row for row in rows if row["group"] == group) for group in groups]
    said = [f"n = {size['n']:,} of {size['known']:,}" for size in sizes]
    counted = []
    present = [cause for cause in COLOURS if any(row["cause"] == cause for row in rows)]
    counts = {(row["group"], row["cause"]): row for row in rows}
    for y, group in enumerate(groups):
        left = 0.0
        for cause in present:
            row = counts.get((group, cause))
            if row is None:
                continue
            share = row["count"] / row["n"]
            axes.barh(y, share, left=left, height=0.72, color=COLOURS[cause], edgecolor=PAPER, linewidth=0.8)
            pale = cause in ("at a price", "too strong", "undecided", "saturates", "broken first")
            shade = "#000000" if pale else "#ffffff"
            text = axes.text(
                left + share / 2, y, f"{row['count']}", ha="center", va="center", fontsize=7.5, color=shade
            )
            counted.append((text, axes.patches[-1]))
            left += share
        if not narrow:
            axes.text(1.012, y, said[y], va="center", fontsize=7.5)
    names = [GROUPS[name].replace(", ", ",\n") + f"\n{size}" for name, size in zip(groups, said, strict=True)]
    axes.set_yticks(range(len(groups)), names if narrow else [GROUPS[name] for name in groups])
    axes.set(
        xlim=(0, 1.02 if narrow else 1.18),
        ylim=(len(groups) - 0.5, -0.6),
        xticks=[0, 0.25, 0.5, 0.75, 1],
        xlabel="share of the failures",
    )
    percent_ticks(axes.xaxis)
    axes.grid(axis="x", color=GRID)
    axes.grid(axis="y", visible=False)
    keys = [Patch(color=COLOURS[cause]) for cause in present]
    legend_outside(fig, keys, present, loc="upper center")
    footnote(
        fig,
        "Numbers in the bars: failing conflicts with the cause. Blue: some gain that does not break the model repairs it.",
    )
    sns.despine(fig=fig, left=True)
    settle(fig)
    for text, bar in counted:
        if text.get_window_extent().width > bar.get_window_extent().width - 2:
            text.remove()
    return fig


def _rows(summary: Mapping) -> list[Mapping]:
    rows = (summary.get("verdict") or {}).get("causes_by_prior")
    if not rows:
        raise FigureUnavailable(NO_SEARCH)
    return list(rows)


def caption(summary: Mapping) -> Caption:
    """The caption."""
    everything = next(row for row in _rows(summary) if row["group"] == "all")
    return Caption(
        title="Why do the failing conflicts fail?",
        shows="Each bar divides the failing conflicts that the base knows by cause: over all of them, and per quarter of prior "
        "strength, log P(old answer), of all known conflicts. One cause per conflict, by the rule in docs/definitions.md.",
        computed="Every failure is read at growing gains, and below 1 where its adapter is strong, until the document's answer "
        "comes first with content or the adapter breaks the model (mean KL to the base above 1 nat per token on unrelated "
        "questions and text). Content: the answer's logit rose over the base by more than nearly all other answers'.",
        n=f"n = {everything['n']:,} failures of {everything['known']:,} known conflicts.",
        interval="No interval is drawn; the table of causes gives one for each share.",
        refutes="for a failure of magnitude: causes other than too weak and at a price, above all no content; for a method that "
        "holds nothing: bars that are blue. The same causes in all quarters would speak against an effect of prior strength on "
        "why an adapter fails.",
    )
