"""What does turning the adapter up buy, and what does it cost?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from override_gap.reports.figures.caption import SHARE, Caption, counted
from override_gap.reports.figures.style import (
    CLOUD,
    INK,
    NO,
    SPLITS,
    YES,
    FigureUnavailable,
    canvas,
    count,
    figure,
    footnote,
    known_value,
    measured,
    numbers,
    percent,
    section,
)


@figure
def dose_response(run, summary: Mapping) -> Figure:
    """Success against gain for each split, and predicted against measured critical gains."""
    found = section(summary, "dose")
    curve = [row for row in found.get("curve") or [] if row["measure"] == "top1" and known_value(row)]
    if not {row["gain"] for row in curve} - {0.0, 1.0}:
        raise FigureUnavailable("no gain besides the delivered one was measured")
    critical = _critical(run)
    made = canvas(7.2 if len(critical) else 4.6, 3.9)
    panels = made.subplots(1, 2 if len(critical) else 1, squeeze=False)[0]
    _curve(panels[0], curve, found.get("half_gain"))
    if len(critical):
        _flips(panels[1], critical)
    footnote(made, "Bands: 95% intervals clustered by knowledge point. On the right every mark is one conflict.")
    sns.despine(fig=made)
    return made


def _curve(axes, curve: list[Mapping], half: Mapping | None) -> None:
    for split in dict.fromkeys(row["split"] for row in curve):
        rows = sorted((row for row in curve if row["split"] == split), key=lambda row: row["gain"])
        where, shade = [row["gain"] for row in rows], SPLITS.get(split, INK)
        label = f"{split}, n = {rows[-1]['n']:,}"
        sns.lineplot(
            x=where,
            y=[row["value"] for row in rows],
            color=shade,
            marker="o",
            markersize=4,
            lw=1.6,
            markeredgewidth=0,
            label=label,
            legend=False,
            ax=axes,
        )
        if all(row.get("low") is not None for row in rows):
            axes.fill_between(
                where, [row["low"] for row in rows], [row["high"] for row in rows], color=shade, alpha=0.18, lw=0
            )
    axes.axvline(1.0, color=INK, lw=0.8, ls=":")
    # Each word on the outer side of its line, so that two lines close together stay readable.
    later = known_value(half) and half["value"] > 1.0
    axes.annotate(
        "as delivered", (1.0, 0.02), (-3 if later else 3, 0), textcoords="offset points", fontsize=7.5, rotation=90,
        va="bottom", ha="right" if later else "left",
    )  # fmt: skip
    if known_value(half):
        axes.axvline(half["value"], color=NO, lw=1)
        if half.get("low") is not None and half.get("high") is not None:
            axes.axvspan(half["low"], half["high"], color=NO, alpha=0.1, lw=0)
        axes.annotate(
            "half of failures flip",
            (half["value"], 0.02),
            (3 if later else -3, 0),
            textcoords="offset points",
            fontsize=7.5,
            rotation=90,
            va="bottom",
            ha="left" if later else "right",
        )
    axes.set(
        xlabel="gain on every layer (0: base)", ylabel="success (top1)", ylim=(-0.03, 1.08), title="Dose and response"
    )
    percent(axes.yaxis)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False, columnspacing=1.0)


def _critical(run):
    """As-delivered conflicts with a measured critical gain; infinity means that no gain in range flips the item."""
    if not {"critical_gain", "critical_gain_predicted"} <= set(run.readings.columns):
        return run.readings.iloc[:0]
    rows = measured(run.readings, "conflict", "as-delivered")
    rows = rows.assign(found=numbers(rows["critical_gain"]), predicted=numbers(rows["critical_gain_predicted"]))
    return rows.dropna(subset=["found", "predicted"])


def _flips(axes, rows) -> None:
    """Items that never flip, or are predicted never to, stand on the frame's far edges."""
    finite = rows["found"][np.isfinite(rows["found"])]
    # The prediction has no upper end (an adapter margin near zero), so the axes follow what was measured.
    edge = max(2.0, 1.15 * finite.max()) if len(finite) else 4.0
    low = min(0.0, float(finite.min())) if len(finite) else 0.0
    never = ~np.isfinite(rows["found"])
    axes.axhspan(edge, edge * 1.12, color=NO, alpha=0.08, lw=0)
    axes.plot([low, edge], [low, edge], color=INK, lw=1)
    for part, label, shade, marker in (
        (rows[~never], "flips in range", YES, "o"),
        (rows[never], "no gain in range flips it", NO, "D"),
    ):
        if len(part):
            sns.scatterplot(
                x=part["predicted"].clip(low, edge),
                y=part["found"].clip(upper=edge * 1.06),
                s=16,
                alpha=0.6,
                color=shade,
                marker=marker,
                linewidth=0,
                label=f"{label} ({len(part)})",
                rasterized=len(part) > CLOUD,
                ax=axes,
            )
    axes.set(
        xlim=(low - 0.04 * edge, edge * 1.04),
        ylim=(low - 0.04 * edge, edge * 1.12),
        title="Critical gain",
        xlabel="predicted: prior margin / adapter margin",
        ylabel="measured: least gain that flips top1",
    )
    count(axes, len(rows), rows["point"].nunique())
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=1, frameon=False, handletextpad=0.2)


def caption(summary: Mapping) -> Caption:
    """In words, with the half gain and the share beyond rescue where known."""
    found = section(summary, "dose")
    critical = found.get("critical") or {}
    words = "Left: success against one gain on every layer; gain 0 is the base, gain 1 the adapter as delivered."
    if known_value(found.get("half_gain")):
        words += f" Half of the failures have flipped at gain {found['half_gain']['value']:.2f}."
    if known_value(critical.get("not_rescuable")):
        words += f" No gain in range rescues {100 * critical['not_rescuable']['value']:.0f}%."
    words += (
        " Right, where measured: the gain at which each conflict flips, against the prediction from the two margins "
        "if the response were linear; on the line it is. Marks on an edge lie beyond it."
    )
    rows = [row for row in found.get("curve") or [] if row["split"] == "conflict"]
    return Caption(
        title="Does turning the adapter up repair the failures, and at what cost?",
        shows=words,
        computed="Success means that the document's token (for retention: the base's own) is the most likely of all; a "
        "flip counts by the same rule, found by bisection.",
        n=counted(rows[-1] if rows else None, "conflicts"),
        interval=f"Bands: {SHARE}. Items in the right panel carry none.",
        refutes="a conflict curve that stays low at every gain (direction, not size, is wrong), or retention that "
        "falls as fast as conflicts rise.",
    )
