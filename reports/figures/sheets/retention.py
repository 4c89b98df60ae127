"""What override does each policy buy for the retention it costs?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import seaborn as sns
from matplotlib.figure import Figure

from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.style import (
    INK,
    PAPER,
    FigureUnavailable,
    canvas,
    colour,
    figure,
    footnote,
    known_value,
    percent,
    plain,
    section,
    span,
    whiskers,
)


def _gain(condition: str) -> float | None:
    """The condition's place on the uniform sweep, or None."""
    if condition in ("base", "as-delivered"):
        return 0.0 if condition == "base" else 1.0
    head, _, tail = condition.partition("-")
    try:
        return float(tail) if head == "uniform" else None
    except ValueError:
        return None


@figure
def retention(run, summary: Mapping) -> Figure:
    """Override against retention: the uniform sweep as a line, every other policy as a labelled mark."""
    found = section(summary, "matched_retention")
    rows = [
        row for row in found.get("frontier") or [] if known_value(row["override"]) and known_value(row["retention"])
    ]
    if not rows:
        raise FigureUnavailable("override and retention were not both measured under any condition")
    compared = [row for row in found.get("comparisons") or [] if known_value(row.get("difference"))]
    if compared:
        made = canvas(7.6, 4.6)
        axes, beside = made.subplots(1, 2, width_ratios=(1.5, 1))
        _matched(beside, compared)
        footnote(
            made,
            "Bars: 95% intervals clustered by knowledge point. Right: the policy minus uniform scaling that keeps as much.",
        )
    else:
        made = canvas(7.2, 4.0)
        axes = made.subplots()
        footnote(made, "Bars: 95% intervals clustered by knowledge point.")
    sweep = [row for row in rows if _gain(row["condition"]) is not None]
    sweep.sort(key=lambda row: _gain(row["condition"]) or 0.0)
    across, up = [row["retention"]["value"] for row in sweep], [row["override"]["value"] for row in sweep]
    sns.lineplot(
        x=across,
        y=up,
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
    for place, row in enumerate(sweep):
        _cross(axes, row, colour("uniform"))
        left = place % 2 == 0
        axes.annotate(
            f"{_gain(row['condition']):g}",
            (across[place], up[place]),
            xytext=(-5 if left else 5, 4),
            textcoords="offset points",
            fontsize=7.5,
            ha="right" if left else "left",
        )
    shapes = itertools.cycle("DsPX^v<>ph")
    for row in rows:
        if row not in sweep:
            shade, name = colour(row["condition"]), plain(row["condition"], 26)
            _cross(axes, row, shade)
            axes.plot(
                row["retention"]["value"],
                row["override"]["value"],
                next(shapes),
                color=shade,
                ms=6.5,
                mew=0.6,
                mec=PAPER,
                ls="none",
                label=name,
            )
    axes.set(xlabel="retention: the base's own answer kept", ylabel="override: conflicts won by the document (top1)")
    axes.set_xlim(*span([row["retention"][key] for row in rows for key in ("low", "value", "high")], 0.05))
    axes.set_ylim(-0.03, 1.05)
    percent(axes.xaxis)
    percent(axes.yaxis)
    last = rows[-1]
    axes.set_title(
        f"n = {last['override']['n']:,} conflicts, {last['retention']['n']:,} retention questions",
        loc="right",
        fontsize=7,
        fontweight="normal",
    )
    made.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    sns.despine(fig=made)
    return made


def _matched(axes, compared: list[Mapping]) -> None:
    """Each policy against the uniform gain of equal retention, in percentage points of override."""
    for place, row in enumerate(compared):
        own = row["difference"]
        axes.errorbar(
            own["value"], place, xerr=whiskers(own), fmt="o", ms=4.5, elinewidth=1.2, color=colour(row["condition"])
        )
    axes.axvline(0, color=INK, lw=0.8)
    labels = [
        plain(row["condition"], 18)
        + ("" if row.get("matched_gain") is None else f"\nvs gain {row['matched_gain']:.2f}")
        for row in compared
    ]
    axes.set_yticks(range(len(compared)), labels)
    axes.tick_params(axis="y", labelsize=7)
    axes.set(ylim=(len(compared) - 0.4, -0.6), xlabel="difference in override (points)", title="Equal retention")
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.0f}" if value else "0")
    axes.set_title(f"n = {compared[0]['difference']['n']:,}", loc="right", fontsize=7, fontweight="normal")


def _cross(axes, row: Mapping, shade: str) -> None:
    """A condition's two intervals, faint, so that neighbouring marks stay readable."""
    x, y = row["retention"], row["override"]
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
    """In words, with the comparison at matched retention."""
    found = section(summary, "matched_retention")
    said = [
        f"{row['condition']} minus uniform at gain {row['matched_gain']:.2f}: "
        f"{100 * row['difference']['value']:+.0f} points [{100 * row['difference']['low']:+.0f}, "
        f"{100 * row['difference']['high']:+.0f}]"
        for row in found.get("comparisons") or []
        if known_value(row.get("difference"))
        and row.get("matched_gain") is not None
        and row["difference"].get("low") is not None
    ]
    words = (
        "Left: each condition by what it keeps (across) and what it overrides (up); the line joins the uniform sweep. A "
        "policy above the line buys more override for its retention than turning everything up. Right: its override "
        "minus that of the uniform gain that keeps as much."
    )
    if said:
        words += " At equal retention: " + "; ".join(said[:3]) + "."
    return Caption(
        title="Is a policy a cure, or a louder adapter?",
        shows=words,
        computed="Both axes by top1. The matched gain is where the uniform sweep, interpolated, has the policy's "
        "retention.",
        n="n of conflicts and of retention questions is stated on the panel.",
        interval=f"Bars in both directions: {SHARE}; on the right, 95% intervals from drawing knowledge points anew.",
        refutes="policies on or below the line: choosing layers would add nothing to loudness.",
    )
