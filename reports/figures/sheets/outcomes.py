"""How often does each condition succeed, by split?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.settle import broken, legend_outside
from override_gap.reports.figures.style import (
    NARROW,
    PAPER,
    SPLITS,
    WIDE,
    FigureUnavailable,
    canvas,
    figure,
    known_value,
    percent_ticks,
    plain_label,
    section_rows,
    size_range,
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
def outcomes(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Success by split and tier (one panel each) and condition (one line each), with intervals."""
    rows = [row for row in section_rows(summary, "outcomes") if row["measure"] == "top1" and known_value(row)]
    panels = _panels(rows)
    if not panels:
        raise FigureUnavailable("no outcome was measured by top1")
    order = [name for name in run.manifest.get("conditions", []) if any(row["condition"] == name for row in rows)]
    order += [name for name in dict.fromkeys(row["condition"] for row in rows) if name not in order]
    # Splits above, tiers beneath, on lines of their own.
    splits, tiers = ([panel for panel in panels if (panel[1] is None) == whole] for whole in (True, False))
    columns = min(2, len(panels)) if narrow else max(len(splits), len(tiers))
    table = [part[n : n + columns] for part in (splits, tiers) for n in range(0, len(part), columns)]
    lines = len(table)
    height = 0.15 if narrow else 0.17
    fig = canvas(NARROW if narrow else WIDE, (0.85 + height * len(order)) * lines + 0.5)
    has_known = False
    grid = fig.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for line, column in itertools.product(range(lines), range(columns)):
        axes = grid[line, column]
        if column >= len(table[line]):
            axes.remove()
            continue
        split, tier = table[line][column]
        axes.tick_params(labelbottom=narrow or line + 1 == lines or column >= len(table[line + 1]))
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
        alike = len({(row["n"], row.get("points")) for row in everyone}) == 1
        size = size_text(everyone[0]["n"], everyone[0].get("points")) if alike else ""
        size = size or (size_range(row["n"] for row in everyone) if everyone else "")
        title = f"{split}, {tier}" if tier else split_label(split).replace(" ", "\n", 1)  # narrow panels
        write_panel_title(axes, title, size)
        axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(-0.04, 1.06), xticks=[0, 0.5, 1])
        axes.set_yticks(range(len(order)), [plain_label(name, 18 if narrow else 24) for name in order])
        axes.tick_params(axis="y", labelsize=7 if narrow else 8)
        percent_ticks(axes.xaxis)
        has_known |= known_only
    name = "success (top1); bars: 95% intervals, clustered by knowledge point or relation (the wider)"
    fig.supxlabel(broken(fig, name, 9, 0.97 * fig.bbox.width), fontsize=9)
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
        legend_outside(fig, marks, [str(mark.get_label()) for mark in marks], loc="upper right")
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
