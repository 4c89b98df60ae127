"""What came out, by split and condition?"""

from __future__ import annotations

from collections.abc import Mapping

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from override_gap.margins.text import plural
from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.style import (
    PAPER,
    SPLITS,
    FigureUnavailable,
    canvas,
    figure,
    known_value,
    percent,
    plain,
    section,
    whiskers,
)

TIERS = ("light", "medium", "deep")


def _panels(rows: list[Mapping]) -> list[tuple[str, str | None]]:
    """Splits in the order of the argument, then the tiers of conflict where there are at least two."""
    there = {(row["split"], row["tier"]) for row in rows}
    splits: list[tuple[str, str | None]] = [
        (split, None) for split in ("novel", "combination", "conflict", "retention") if (split, None) in there
    ]
    tiers = [("conflict", tier) for tier in TIERS if ("conflict", tier) in there]
    return splits + (tiers if len(tiers) > 1 else [])


@figure
def outcomes(run, summary: Mapping) -> Figure:
    """Success by split and tier (a panel each) and condition (a line each), with intervals."""
    rows = [row for row in section(summary, "outcomes") if row["measure"] == "top1" and known_value(row)]
    panels = _panels(rows)
    if not panels:
        raise FigureUnavailable("no outcome was measured by top1")
    order = [name for name in run.manifest.get("conditions", []) if any(row["condition"] == name for row in rows)]
    order += [name for name in dict.fromkeys(row["condition"] for row in rows) if name not in order]
    tiers = sum(tier is not None for _, tier in panels)
    columns = max(len(panels) - tiers, tiers)
    lines = 2 if tiers else 1
    # Splits above, tiers beneath; a hole keeps the tiers on their own line.
    splits = panels[: len(panels) - tiers]
    panels = splits + [None] * (columns - len(splits)) * (lines - 1) + panels[len(splits) :]
    made = canvas(7.6, (0.75 + 0.17 * len(order)) * lines + 0.35)
    hollow = False
    grid = made.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        if panel is None:
            continue
        split, tier = panel
        part = [row for row in rows if (row["split"], row["tier"]) == (split, tier)]
        shade = SPLITS.get(split, SPLITS["conflict"])
        known_only = split == "conflict" and any(row.get("population") == "known" for row in part)
        for known in (False, True) if known_only else (False,):
            own = [row for row in part if (row.get("population") == "known") == known]
            place = [order.index(row["condition"]) + (0.18 if known else -0.18 if known_only else 0.0) for row in own]
            ends = [[whiskers(row)[side][0] for row in own] for side in (0, 1)]
            axes.errorbar(
                [row["value"] for row in own],
                place,
                xerr=ends,
                fmt="D" if known else "o",
                ms=3.4,
                elinewidth=1.1,
                color=shade,
                mfc=PAPER if known else shade,
                mew=0.9,
            )
        axes.set_title(f"{split}, {tier}" if tier else split, pad=15)
        axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(-0.04, 1.06))
        most = max(
            (row for row in part if row.get("population", "all") == "all"), key=lambda row: row["n"], default=None
        )
        if most:
            text = f"n = {most['n']:,}" + (f" in {plural(most['points'], 'cluster')}" if most.get("points") else "")
            axes.annotate(text, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=7)
        hollow |= known_only
    for place, axes in enumerate(grid):
        if place >= len(panels) or panels[place] is None:
            axes.set_visible(False)
            continue
        axes.set_yticks(range(len(order)), [plain(name, 24) for name in order])
        axes.set_xticks([0, 0.5, 1])
        percent(axes.xaxis)
        below = place + columns
        if below >= len(grid) or below >= len(panels) or panels[below] is None:
            axes.tick_params(labelbottom=True)
    made.supxlabel("success (top1); bars: 95% intervals clustered by knowledge point", fontsize=9)
    if hollow:
        marks = [
            Line2D([], [], ls="none", color=SPLITS["conflict"], marker="o", ms=4, label="all questions"),
            Line2D(
                [],
                [],
                ls="none",
                color=SPLITS["conflict"],
                marker="D",
                ms=4,
                mfc=PAPER,
                label="conflicts that the base knows",
            ),
        ]
        made.legend(handles=marks, loc="outside upper right", ncols=2, frameon=False)
    sns.despine(fig=made)
    return made


def caption(summary: Mapping) -> Caption:
    """In words."""
    section(summary, "outcomes")
    return Caption(
        title="What came out, by split and condition?",
        shows="Success under each condition. Filled circles: all questions; open diamonds, conflicts only: those whose "
        "prior answer the base gives as its first token, since an item that the base does not know has no "
        "prior to override.",
        computed="Success by top1: the first differing token of the document's answer is the most likely of all "
        "tokens; for retention, that the base's own top answer is kept. The tables give the other two measures.",
        n="n is stated on each panel. Under base, a conflict won is the base agreeing with the document.",
        interval=f"Bars: {SHARE}.",
        refutes="conflicts overridden as often as novel facts are recalled (there is no gap to explain), or an adapter "
        "no better than the base.",
    )
