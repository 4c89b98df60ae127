"""How often does each condition succeed, by split?"""

from __future__ import annotations

from collections.abc import Mapping

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.style import (
    PAPER,
    SPLITS,
    FigureUnavailable,
    canvas,
    figure,
    known_value,
    percent_ticks,
    plain_label,
    section_rows,
    size_text,
    whiskers,
    write_panel_title,
)
from override_gap.reports.text import split_label

TIERS = ("light", "medium", "deep")


def _panels(rows: list[Mapping]) -> list[tuple[str, str | None]]:
    """Splits in the order of the argument, then the tiers of conflict where there are at least two."""
    present = {(row["split"], row["tier"]) for row in rows}
    splits: list[tuple[str, str | None]] = [
        (split, None) for split in ("novel", "combination", "conflict", "retention") if (split, None) in present
    ]
    tiers = [("conflict", tier) for tier in TIERS if ("conflict", tier) in present]
    return splits + (tiers if len(tiers) > 1 else [])


@figure
def outcomes(run: RunFrame, summary: Mapping) -> Figure:
    """Success by split and tier (one panel each) and condition (one line each), with intervals."""
    rows = [row for row in section_rows(summary, "outcomes") if row["measure"] == "top1" and known_value(row)]
    panels = _panels(rows)
    if not panels:
        raise FigureUnavailable("no outcome was measured by top1")
    order = [name for name in run.manifest.get("conditions", []) if any(row["condition"] == name for row in rows)]
    order += [name for name in dict.fromkeys(row["condition"] for row in rows) if name not in order]
    tiers = sum(tier is not None for _, tier in panels)
    columns = max(len(panels) - tiers, tiers)
    lines = 2 if tiers else 1
    # Splits above, tiers beneath; empty panels keep the tiers on a line of their own.
    splits = panels[: len(panels) - tiers]
    panels = splits + [None] * (columns - len(splits)) * (lines - 1) + panels[len(splits) :]
    fig = canvas(7.6, (0.75 + 0.17 * len(order)) * lines + 0.35)
    has_known = False
    grid = fig.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        if panel is None:
            continue
        split, tier = panel
        subset = [row for row in rows if (row["split"], row["tier"]) == (split, tier)]
        shade = SPLITS.get(split, SPLITS["conflict"])
        known_only = split == "conflict" and any(row.get("population") == "known" for row in subset)
        for known in (False, True) if known_only else (False,):
            drawn = [row for row in subset if (row.get("population") == "known") == known]
            shift = 0.18 if known else -0.18 if known_only else 0.0
            positions = [order.index(row["condition"]) + shift for row in drawn]
            ends = [[whiskers(row)[side][0] for row in drawn] for side in (0, 1)]
            axes.errorbar(
                [row["value"] for row in drawn],
                positions,
                xerr=ends,
                fmt="D" if known else "o",
                ms=3.4,
                elinewidth=1.1,
                color=shade,
                mfc=PAPER if known else shade,
                mew=0.9,
            )
        everyone = [row for row in subset if row.get("population", "all") == "all"]
        largest = max(everyone, key=lambda row: row["n"], default=None)
        size = size_text(largest["n"], largest.get("points")) if largest else ""
        title = f"{split}, {tier}" if tier else split_label(split).replace(" ", "\n", 1)  # narrow panels
        write_panel_title(axes, title, size)
        axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(-0.04, 1.06))
        has_known |= known_only
    for n, axes in enumerate(grid):
        if n >= len(panels) or panels[n] is None:
            axes.set_visible(False)
            continue
        axes.set_yticks(range(len(order)), [plain_label(name, 24) for name in order])
        axes.set_xticks([0, 0.5, 1])
        percent_ticks(axes.xaxis)
        below = n + columns
        if below >= len(grid) or below >= len(panels) or panels[below] is None:
            axes.tick_params(labelbottom=True)
    fig.supxlabel(
        "success (top1); bars: 95% intervals, clustered by knowledge point or relation (the wider)", fontsize=9
    )
    if has_known:
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
                label="conflicts whose old answer the model knows",
            ),
        ]
        fig.legend(handles=marks, loc="outside upper right", ncols=2, frameon=False)
    sns.despine(fig=fig)
    return fig


def caption(summary: Mapping) -> Caption:
    """The caption."""
    section_rows(summary, "outcomes")
    return Caption(
        title="How often does each condition succeed?",
        shows="Success under each condition. Filled circles: all questions. Open diamonds: conflicts whose old answer the "
        "base model gives as its first token; where it does not know the old answer, there is no prior to override.",
        computed="Success by top1: the first differing token of the document's answer is the most likely of all "
        "tokens; for unrelated answers, the base model's own most likely token is kept. The tables give the other measures.",
        n="n is stated on each panel. Under base, a success on a conflict means that the base model already agrees with the "
        "document.",
        interval=f"Bars: {SHARE}.",
        refutes="conflicts overridden as often as novel facts are recalled (there is no gap to explain), or an adapter "
        "no better than the base model.",
    )
