"""Which method gets more, and by how much on the same items? Drawn from a comparison, not from a run."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import seaborn as sns
from matplotlib.figure import Figure

from override_gap.margins.text import plural
from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.style import (
    ADAPTED,
    INK,
    PAPER,
    SPLITS,
    FigureUnavailable,
    canvas,
    known_value,
    percent,
    plain,
    settings,
    whiskers,
)

MOST = 40
"""Lines of the figure of differences, so that it stays readable."""


def _measure(found: Mapping) -> str:
    return "top1" if "top1" in found["measures"] else found["measures"][0]


def _main(found: Mapping, section: str) -> list[Mapping]:
    rows = [row for row in found[section] if row["population"] == "all" and row["measure"] == _measure(found)]
    return [row for row in rows if known_value(row if section == "outcomes" else row["difference"])]


def _label(row: Mapping) -> str:
    return row["split"] + (f", {row['tier']}" if row["tier"] else "")


def by_method(found: Mapping) -> Figure:
    """Success by split and tier (a panel each) and method (a line each), with intervals."""
    rows = _main(found, "outcomes")
    if not rows:
        raise FigureUnavailable("no outcome was measured in every run")
    panels = list(dict.fromkeys(_label(row) for row in rows))
    names = [own["name"] for own in found["methods"]]
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    with matplotlib.rc_context(settings()):
        made = canvas(7.6, (0.8 + 0.22 * len(names)) * lines + 0.35)
        grid = made.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            own = [row for row in rows if _label(row) == panel]
            ends = [[whiskers(row)[side][0] for row in own] for side in (0, 1)]
            at = [names.index(row["method"]) for row in own]
            shade = SPLITS.get(own[0]["split"], INK)
            axes.errorbar([row["value"] for row in own], at, xerr=ends, fmt="o", ms=3.6, elinewidth=1.1, color=shade)
            axes.set_title(panel, pad=15)
            text = f"n = {own[0]['n']:,} in {plural(own[0]['points'], 'cluster')}"
            axes.annotate(text, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=7)
            axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(-0.04, 1.06), xticks=[0, 0.5, 1])
            axes.set_yticks(range(len(names)), [plain(name, 22) for name in names])
            percent(axes.xaxis)
            axes.tick_params(labelbottom=True)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        made.supxlabel(f"success ({_measure(found)}), {plain(found['condition'])}", fontsize=9)
        sns.despine(fig=made)
    return made


def differences(found: Mapping) -> Figure:
    """First minus second on the same items, a line per pair of methods and split."""
    rows = [row for row in _main(found, "pairs") if row["tier"] is None][:MOST]
    if not rows:
        raise FigureUnavailable("no pair of methods was measured on the same items")
    with matplotlib.rc_context(settings()):
        made = canvas(7.6, 0.9 + 0.24 * len(rows))
        axes = made.subplots()
        ends = [[whiskers(row["difference"])[side][0] for row in rows] for side in (0, 1)]
        for at, (row, low, high) in enumerate(zip(rows, *ends, strict=True)):
            clear = row["p_holm"] is not None and row["p_holm"] < 0.05
            axes.errorbar(
                row["difference"]["value"], at, xerr=[[low], [high]], fmt="o", ms=4, elinewidth=1.1, color=ADAPTED,
                mfc=ADAPTED if clear else PAPER,
            )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=0.8)
        labels = [f"{row['split']}: {plain(row['first'], 22)} \u2212 {plain(row['second'], 22)}" for row in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"difference in success ({_measure(found)})")
        percent(axes.xaxis)
        sns.despine(fig=made)
    return made


def by_method_caption(found: Mapping) -> Caption:
    """In words."""
    return Caption(
        title="What does each method get?",
        shows=f"Success under {plain(found['condition'])}, a panel per split and tier, a line per method.",
        computed=f"Success by {_measure(found)}, on the items that every method was measured on.",
        n="n is stated on each panel.",
        interval=f"Bars: {SHARE}.",
        refutes="intervals that overlap say little here, since the items are the same: the paired differences decide.",
    )


def differences_caption(found: Mapping) -> Caption:
    """In words."""
    return Caption(
        title="By how much do the methods differ on the same items?",
        shows="First minus second; filled where Holm's adjusted p is below 0.05, open elsewhere.",
        computed=f"Difference of the shares by {_measure(found)}, paired by item.",
        n="n is in the table of paired differences.",
        interval="Bars: 95% intervals from the limits of both shares and their correlation over knowledge points.",
        refutes="an interval that holds zero does not show that the methods are equal, only that this did not tell them apart.",
    )
