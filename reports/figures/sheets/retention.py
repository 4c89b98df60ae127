"""How many conflicts does each policy override, and what does it cost: unrelated answers lost, and KL to the base there?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.boxes import place_labels
from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.settle import legend_outside, settle
from override_gap.reports.figures.style import (
    INK,
    NARROW,
    PAPER,
    WIDE,
    FigureUnavailable,
    canvas,
    colour,
    figure,
    footnote,
    known_value,
    padded_limits,
    percent_ticks,
    plain_label,
    section,
    size_range,
    whiskers,
    write_size,
)


def _gain(condition: str) -> float | None:
    """The condition's gain on every layer; None where it is no uniform gain."""
    if condition in ("base", "as-delivered"):
        return 0.0 if condition == "base" else 1.0
    name, _, gain = condition.partition("-")
    try:
        return float(gain) if name == "uniform" else None
    except ValueError:
        return None


@figure
def retention(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Conflicts overridden against unrelated answers kept and KL: uniform gains as a line, every other policy as a mark."""
    matched = section(summary, "matched_retention")
    rows = [
        row for row in matched.get("frontier") or [] if known_value(row["override"]) and known_value(row["retention"])
    ]
    if not rows:
        raise FigureUnavailable("no condition was measured on both conflicts and unrelated questions")
    costs = ["retention"] + (["kl"] if all(known_value(row.get("kl")) for row in rows) else [])
    compared = [_known_rows(matched.get(key)) for key in ("comparisons", "kl")]
    layout: list = [[cost] for cost in costs] if narrow else [costs]
    heights = [3.2 if narrow else 4.0] * len(layout)
    if any(compared):
        names = {row["condition"] for found in compared for row in found}
        layout, heights = [*layout, ["differences"] * len(layout[0])], [*heights, 0.9 + 0.28 * len(names)]
    fig = canvas(NARROW if narrow else WIDE, sum(heights) + 0.6)
    panels = fig.subplot_mosaic(layout, height_ratios=heights)
    text = "Bars: 95% intervals, clustered by knowledge point or relation (the wider)."
    if any(compared):
        _differences(panels["differences"], *compared)
        text += " Below: policy minus uniform scaling at the same cost."
    footnote(fig, text)
    for cost in costs:
        _frontier(panels[cost], rows, cost)
    for cost in costs if narrow else costs[:1]:
        panels[cost].set(ylabel="conflicts overridden (top1)")
    conflicts, unrelated = (size_range(row[key]["n"] for row in rows) for key in ("override", "retention"))
    write_size(panels["retention"], f"{conflicts} conflicts, {unrelated.removeprefix('n = ')} unrelated questions")
    legend_outside(fig, *panels["retention"].get_legend_handles_labels(), loc="upper center", most=2 if narrow else 4)
    sns.despine(fig=fig)
    settle(fig)
    sweep = sorted((row for row in rows if _gain(row["condition"]) is not None), key=_order)
    for cost in costs:
        labels = [(f"{_gain(row['condition']):g}", (row[cost]["value"], row["override"]["value"])) for row in sweep]
        place_labels(panels[cost], labels, 7.5)
    return fig


def _order(row: Mapping) -> tuple[int, float]:
    """The order in which gains are named, since there may not be room for all: as delivered, the base, then the largest."""
    gain = _gain(row["condition"]) or 0.0
    return (0 if gain == 1.0 else 1 if gain == 0.0 else 2, -gain)


def _known_rows(rows: list[Mapping] | None) -> list[Mapping]:
    return [row for row in rows or [] if known_value(row.get("difference"))]


def _frontier(axes: Axes, rows: list[Mapping], cost: str) -> None:
    """Override against one cost; the axis of KL is the other way round, and even in its root, so that cheap is right on both."""
    sweep = [row for row in rows if _gain(row["condition"]) is not None]
    sweep.sort(key=lambda row: _gain(row["condition"]) or 0.0)
    spent, overridden = ([row[key]["value"] for row in sweep] for key in (cost, "override"))
    sns.lineplot(
        x=spent,
        y=overridden,
        sort=False,
        estimator=None,
        color=colour("uniform"),
        lw=1.6,
        marker="o",
        markersize=5,
        markeredgewidth=0,
        label="uniform, with its gain",
        legend=False,
        ax=axes,
    )
    for row in sweep:
        _intervals(axes, row, cost, colour("uniform"))
    shapes = itertools.cycle("DsPX^v<>ph")
    for row in rows:
        if row not in sweep:
            shade, name = colour(row["condition"]), plain_label(row["condition"], 26)
            _intervals(axes, row, cost, shade)
            axes.plot(
                row[cost]["value"],
                row["override"]["value"],
                next(shapes),
                color=shade,
                ms=6.5,
                mew=0.6,
                mec=PAPER,
                ls="none",
                label=name,
            )
    axes.set_ylim(-0.03, 1.05)
    percent_ticks(axes.yaxis)
    if cost == "retention":
        axes.set(xlabel="unrelated answers kept")
        axes.set_xlim(*padded_limits([row[cost][key] for row in rows for key in ("low", "value", "high")], 0.05))
        percent_ticks(axes.xaxis)
        return
    largest = max(limit for row in rows for limit in (row[cost]["value"], row[cost]["high"] or 0.0))
    axes.set_xscale("function", functions=(_root, np.square))
    axes.set_xlim(max(1.05 * largest, 1e-3), 0)
    axes.set(xlabel="KL to the base there (nats; axis: its root)")
    ticks = [tick for tick in (0, 0.05, 0.25, 1, 2, 5, 10) if tick <= 1.05 * largest]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def _root(x: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """The root of what is above 0; 0 below it, where a padded axis may reach."""
    return np.sqrt(np.maximum(x, 0.0))


def _differences(axes: Axes, at_retention: list[Mapping], at_kl: list[Mapping]) -> None:
    """Each policy minus the uniform gain of equal cost, in percentage points of conflicts: by retention, and by KL."""
    names = list(dict.fromkeys(row["condition"] for row in (*at_retention, *at_kl)))
    for rows, shift, filled in ((at_retention, -0.16, True), (at_kl, 0.16, False)):
        for row in rows:
            difference, shade = row["difference"], colour(row["condition"])
            axes.errorbar(
                difference["value"],
                names.index(row["condition"]) + (shift if at_kl else 0),
                xerr=whiskers(difference),
                fmt="o",
                ms=4.5,
                elinewidth=1.2,
                color=shade,
                mfc=shade if filled else PAPER,
            )
    axes.axvline(0, color=INK, lw=0.8)
    gains = {
        name: [f"{row['matched_gain']:.2f}" for row in (*at_retention, *at_kl)
               if row["condition"] == name and row.get("matched_gain") is not None]
        for name in names
    }  # fmt: skip
    labels = [plain_label(name, 18) + (f" vs {', '.join(gains[name])}" if gains[name] else "") for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.tick_params(axis="y", labelsize=7)
    title = "At equal retention (filled) and equal KL (open)" if at_kl else "At equal retention"
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="difference in conflicts overridden (pp)", title=title)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+z.0f}" if value else "0")
    write_size(axes, size_range(row["difference"]["n"] for row in (*at_retention, *at_kl)))


def _intervals(axes: Axes, row: Mapping, cost: str, shade: str) -> None:
    """A condition's two intervals, faint, so that neighbouring marks stay readable."""
    x, y = row[cost], row["override"]
    axes.errorbar(
        x["value"],
        y["value"],
        xerr=whiskers(x),
        yerr=whiskers(y),
        fmt="none",
        ecolor=shade,
        elinewidth=0.9,
        alpha=0.45,
        zorder=1,
    )


def caption(summary: Mapping) -> Caption:
    """The caption, with the policies compared at equal cost."""
    matched = section(summary, "matched_retention")
    differences = [
        f"{row['condition']} minus uniform at gain {row['matched_gain']:.2f} (equal {cost}): "
        f"{100 * row['difference']['value']:+z.0f} points [{100 * row['difference']['low']:+z.0f}, "
        f"{100 * row['difference']['high']:+z.0f}]"
        for key, cost in (("kl", "KL"), ("comparisons", "retention"))
        for row in matched.get(key) or []
        if known_value(row.get("difference"))
        and row.get("matched_gain") is not None
        and row["difference"].get("low") is not None
    ]
    shows = (
        "Above: each condition by what it costs (across: the unrelated answers that it keeps; the mean KL to the base there) "
        "and the conflicts that it overrides (up); the line joins the uniform gains. A policy above the line overrides more "
        "than scaling all layers alike at the same cost. Below: conflicts overridden by each policy, minus those by the "
        "uniform gain that costs as much (the matched gain)."
    )
    if differences:
        shows += " At equal cost: " + "; ".join(differences[:3]) + "."
    if refused := matched.get("refused"):
        shows += (
            " Not applicable to some unrelated questions: "
            + ", ".join(f"{row['condition']} ({row['n']} of {row['of']})" for row in refused)
            + "."
        )
    return Caption(
        title="Does a policy do better than scaling all layers alike?",
        shows=shows,
        computed="Override and answers kept by top1. The matched gain is where the line of uniform gains, interpolated, keeps "
        "as many unrelated answers as the policy, or has its mean KL.",
        n="n of conflicts and of unrelated questions is stated on the panel.",
        interval=f"Bars above, in both directions: {SHARE} (KL: of a clustered mean); below, 95% intervals from resampled "
        "knowledge points.",
        refutes="policies on or below the line: choosing layers would then add nothing to a larger gain.",
    )
