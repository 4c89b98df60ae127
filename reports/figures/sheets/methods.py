"""Which method succeeds more often, and by how much on the same items? Drawn from a comparison, not from a run."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import seaborn as sns
from matplotlib.figure import Figure

from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.settle import broken, settle
from override_gap.reports.figures.style import (
    ADAPTED,
    INK,
    NARROW,
    PAPER,
    SPLITS,
    WIDE,
    FigureUnavailable,
    canvas,
    known_value,
    percent_ticks,
    plain_label,
    settings,
    size_text,
    whiskers,
    write_panel_title,
)
from override_gap.reports.text import split_label

MOST = 40
"""At most this many lines in the figure of differences, so that it stays readable."""


def _measure(comparison: Mapping) -> str:
    """The main measure: the first token where it was measured."""
    return "top1" if "top1" in comparison["measures"] else comparison["measures"][0]


def _main_rows(comparison: Mapping, section: str) -> list[Mapping]:
    """A section's known rows by the main measure, over all items."""
    rows = [row for row in comparison[section] if row["population"] == "all" and row["measure"] == _measure(comparison)]
    if section == "pairs":
        rows = [{**row, "difference": _as_holm(row)} for row in rows]
    return [row for row in rows if known_value(row if section == "outcomes" else row["difference"])]


def _as_holm(row: Mapping) -> dict:
    """A paired difference with the interval that excludes 0 exactly where Holm's p is below .05."""
    gap = row["difference"]
    return {**gap, "low": row.get("low_holm", gap["low"]), "high": row.get("high_holm", gap["high"])}


def _label(row: Mapping) -> str:
    return split_label(row["split"]) + (f", {row['tier']}" if row["tier"] else "")


def by_method(comparison: Mapping, narrow: bool = False) -> Figure:
    """Success by split and tier (one panel each) and method (one line each), with intervals."""
    rows = _main_rows(comparison, "outcomes")
    if not rows:
        raise FigureUnavailable("no outcome was measured in every run")
    panels = list(dict.fromkeys(_label(row) for row in rows))
    names = [method["name"] for method in comparison["methods"]]
    columns = min(2 if narrow else 4, len(panels))
    lines = -(-len(panels) // columns)
    with matplotlib.rc_context(settings()):
        fig = canvas(NARROW if narrow else WIDE, (0.8 + 0.22 * len(names)) * lines + 0.45)
        grid = fig.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            subset = [row for row in rows if _label(row) == panel]
            ends = [[whiskers(row)[side][0] for row in subset] for side in (0, 1)]
            positions = [names.index(row["method"]) for row in subset]
            shade = SPLITS.get(subset[0]["split"], INK)
            values = [row["value"] for row in subset]
            axes.errorbar(values, positions, xerr=ends, fmt="o", ms=3.6, elinewidth=1.1, color=shade)
            write_panel_title(axes, panel, size_text(subset[0]["n"], subset[0]["points"]))
            axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(-0.04, 1.06), xticks=[0, 0.5, 1])
            axes.set_yticks(range(len(names)), [plain_label(name, 22) for name in names])
            percent_ticks(axes.xaxis)
            axes.tick_params(labelbottom=True)
        for axes in grid[len(panels) :]:
            axes.remove()
        name = f"success ({_measure(comparison)}), {plain_label(comparison['condition'])}"
        fig.supxlabel(broken(fig, name, 9, 0.97 * fig.bbox.width), fontsize=9)
        sns.despine(fig=fig)
        settle(fig)
    return fig


def differences(comparison: Mapping, narrow: bool = False) -> Figure:
    """First minus second on the same items, one line per pair of methods and split."""
    rows = [row for row in _main_rows(comparison, "pairs") if row["tier"] is None][:MOST]
    if not rows:
        raise FigureUnavailable("no pair of methods was measured on the same items")
    with matplotlib.rc_context(settings()):
        fig = canvas(NARROW if narrow else WIDE, 0.9 + (0.42 if narrow else 0.24) * len(rows))
        axes = fig.subplots()
        end = "\n" if narrow else " "
        ends = [[whiskers(row["difference"])[side][0] for row in rows] for side in (0, 1)]
        for y, (row, low, high) in enumerate(zip(rows, *ends, strict=True)):
            significant = row["p_holm"] is not None and row["p_holm"] < 0.05
            axes.errorbar(
                row["difference"]["value"], y, xerr=[[low], [high]], fmt="o", ms=4, elinewidth=1.1, color=ADAPTED,
                mfc=ADAPTED if significant else PAPER,
            )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=0.8)
        labels = [
            f"{split_label(row['split'])}:{end}{plain_label(row['first'], 22)} \u2212{end}{plain_label(row['second'], 22)}"
            for row in rows
        ]
        axes.set_yticks(range(len(rows)), labels)
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"difference in success ({_measure(comparison)})")
        percent_ticks(axes.xaxis)
        sns.despine(fig=fig)
        settle(fig)
    return fig


def by_method_caption(comparison: Mapping) -> Caption:
    """The caption."""
    return Caption(
        title="How often does each method succeed?",
        shows=f"Success under {plain_label(comparison['condition'])}, one panel per split and tier, one line per method.",
        computed=f"Success by {_measure(comparison)}, on the items that every method was measured on.",
        n="n is stated on each panel.",
        interval=f"Bars: {SHARE}.",
        refutes="overlapping intervals say little here, since the items are the same: the paired differences decide.",
    )


def differences_caption(comparison: Mapping) -> Caption:
    """The caption."""
    return Caption(
        title="By how much do the methods differ on the same items?",
        shows="First minus second; filled where Holm's adjusted p is below 0.05, open elsewhere.",
        computed=f"Difference of the shares by {_measure(comparison)}, paired by item.",
        n="n is in the table of paired differences.",
        interval="Bars: the intervals of the paired test, widened for the number of pairs as Holm's p is: they exclude 0 "
        "exactly where it is below 0.05.",
        refutes="an interval that holds zero does not show that the methods are equal, only that these items do not "
        "separate them.",
    )
