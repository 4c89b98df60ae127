"""How many conflicts does each policy override, and how many unrelated answers does it keep?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame
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
    padded_limits,
    percent_ticks,
    plain_label,
    section,
    size_text,
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
def retention(run: RunFrame, summary: Mapping) -> Figure:
    """Conflicts overridden against unrelated answers kept: uniform gains as a line, every other policy as a mark."""
    matched = section(summary, "matched_retention")
    rows = [
        row for row in matched.get("frontier") or [] if known_value(row["override"]) and known_value(row["retention"])
    ]
    if not rows:
        raise FigureUnavailable("no condition was measured on both conflicts and unrelated questions")
    compared = [row for row in matched.get("comparisons") or [] if known_value(row.get("difference"))]
    if compared:
        fig = canvas(7.6, 4.6)
        axes, right = fig.subplots(1, 2, width_ratios=(1.5, 1))
        _differences(right, compared)
        footnote(
            fig,
            "Bars: 95% intervals clustered by knowledge point. Right: policy minus uniform scaling that keeps as many answers.",
        )
    else:
        fig = canvas(7.2, 4.0)
        axes = fig.subplots()
        footnote(fig, "Bars: 95% intervals clustered by knowledge point.")
    sweep = [row for row in rows if _gain(row["condition"]) is not None]
    sweep.sort(key=lambda row: _gain(row["condition"]) or 0.0)
    kept, overridden = ([row[key]["value"] for row in sweep] for key in ("retention", "override"))
    sns.lineplot(
        x=kept,
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
    for n, row in enumerate(sweep):
        _intervals(axes, row, colour("uniform"))
        left = n % 2 == 0
        axes.annotate(
            f"{_gain(row['condition']):g}",
            (kept[n], overridden[n]),
            xytext=(-5 if left else 5, 4),
            textcoords="offset points",
            fontsize=7.5,
            ha="right" if left else "left",
        )
    shapes = itertools.cycle("DsPX^v<>ph")
    for row in rows:
        if row not in sweep:
            shade, name = colour(row["condition"]), plain_label(row["condition"], 26)
            _intervals(axes, row, shade)
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
    axes.set(xlabel="unrelated answers kept", ylabel="conflicts overridden (top1)")
    axes.set_xlim(*padded_limits([row["retention"][key] for row in rows for key in ("low", "value", "high")], 0.05))
    axes.set_ylim(-0.03, 1.05)
    percent_ticks(axes.xaxis)
    percent_ticks(axes.yaxis)
    last = rows[-1]
    write_size(axes, f"n = {last['override']['n']:,} conflicts, {last['retention']['n']:,} unrelated questions")
    fig.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    sns.despine(fig=fig)
    return fig


def _differences(axes: Axes, compared: list[Mapping]) -> None:
    """Each policy minus the uniform gain that keeps as many unrelated answers, in percentage points of conflicts."""
    for y, row in enumerate(compared):
        difference = row["difference"]
        axes.errorbar(
            difference["value"],
            y,
            xerr=whiskers(difference),
            fmt="o",
            ms=4.5,
            elinewidth=1.2,
            color=colour(row["condition"]),
        )
    axes.axvline(0, color=INK, lw=0.8)
    labels = [
        plain_label(row["condition"], 18)
        + ("" if row.get("matched_gain") is None else f"\nvs gain {row['matched_gain']:.2f}")
        for row in compared
    ]
    axes.set_yticks(range(len(compared)), labels)
    axes.tick_params(axis="y", labelsize=7)
    axes.set(ylim=(len(compared) - 0.4, -0.6), xlabel="difference in conflicts overridden (pp)", title="At equal cost")
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.0f}" if value else "0")
    write_size(axes, size_text(compared[0]["difference"]["n"]))


def _intervals(axes: Axes, row: Mapping, shade: str) -> None:
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
    """The caption, with the policies compared at equal cost."""
    matched = section(summary, "matched_retention")
    differences = [
        f"{row['condition']} minus uniform at gain {row['matched_gain']:.2f}: "
        f"{100 * row['difference']['value']:+.0f} points [{100 * row['difference']['low']:+.0f}, "
        f"{100 * row['difference']['high']:+.0f}]"
        for row in matched.get("comparisons") or []
        if known_value(row.get("difference"))
        and row.get("matched_gain") is not None
        and row["difference"].get("low") is not None
    ]
    shows = (
        "Left: each condition by the unrelated answers that it keeps (across) and the conflicts that it overrides (up); "
        "the line joins the uniform gains. A policy above the line overrides more than scaling all layers alike at the "
        "same cost. Right: conflicts overridden by each policy, minus those by the uniform gain that keeps as many "
        "unrelated answers (the matched gain)."
    )
    if differences:
        shows += " At equal cost: " + "; ".join(differences[:3]) + "."
    return Caption(
        title="Does a policy do better than scaling all layers alike?",
        shows=shows,
        computed="Both axes by top1. The matched gain is where the line of uniform gains, interpolated, keeps as many "
        "unrelated answers as the policy.",
        n="n of conflicts and of unrelated questions is stated on the panel.",
        interval=f"Bars in both directions: {SHARE}; on the right, 95% intervals from resampled knowledge points.",
        refutes="policies on or below the line: choosing layers would then add nothing to a larger gain.",
    )
