"""What does scaling the adapter up fix, and what does it cost?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame, Table
from override_gap.reports.figures.caption import SHARE, Caption, size_sentence
from override_gap.reports.figures.settle import legend_below
from override_gap.reports.figures.style import (
    CLOUD,
    INK,
    NARROW,
    NO,
    SPLITS,
    WIDE,
    YES,
    FigureUnavailable,
    as_floats,
    canvas,
    figure,
    footnote,
    known_value,
    measured_rows,
    percent_ticks,
    section,
    size_text,
    write_size,
)
from override_gap.reports.text import split_label


@figure
def dose_response(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Success against gain for each split, and predicted against measured critical gains."""
    dose = section(summary, "dose")
    curve = [row for row in dose.get("curve") or [] if row["measure"] == "top1" and known_value(row)]
    if not {row["gain"] for row in curve} - {0.0, 1.0}:
        raise FigureUnavailable("no gain besides the delivered one was measured")
    critical = _both_critical_gains(run)
    count = 2 if len(critical) else 1
    fig = canvas(NARROW, 0.4 + 3.7 * count) if narrow else canvas(WIDE if len(critical) else 4.6, 4.2)
    panels = fig.subplots(*((count, 1) if narrow else (1, count)), squeeze=False).ravel()
    room = NARROW if narrow or count == 1 else WIDE / 2
    _curve(panels[0], curve, dose.get("half_gain"), room)
    if len(critical):
        _critical_gains(panels[1], critical, room)
    footnote(
        fig,
        "Bands: 95% intervals, clustered by knowledge point or relation (the wider)."
        + " Critical gain: every mark is one conflict." * (count == 2),
    )
    sns.despine(fig=fig)
    return fig


def _curve(axes: Axes, curve: list[Mapping], half: Mapping | None, room: float) -> None:
    """Success per split against gain, with the delivered gain and the half gain marked."""
    for split in dict.fromkeys(row["split"] for row in curve):
        rows = sorted((row for row in curve if row["split"] == split), key=lambda row: row["gain"])
        gains, shade = [row["gain"] for row in rows], SPLITS.get(split, INK)
        label = f"{split_label(split)}, n = {_as_delivered(rows)['n']:,}"
        sns.lineplot(
            x=gains,
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
                gains, [row["low"] for row in rows], [row["high"] for row in rows], color=shade, alpha=0.18, lw=0
            )
    axes.axvline(1.0, color=INK, lw=0.8, ls=":", label="as delivered")
    if known_value(half):
        axes.axvline(half["value"], color=NO, lw=1, label="half of failures flip")
        if half.get("low") is not None and half.get("high") is not None:
            axes.axvspan(half["low"], half["high"], color=NO, alpha=0.1, lw=0)
    axes.set(
        xlabel="gain on every layer (0: base model)",
        ylabel="success (top1)",
        ylim=(-0.03, 1.08),
        title="Success by gain",
    )
    percent_ticks(axes.yaxis)
    legend_below(axes, room)


def _as_delivered(rows: list[Mapping]) -> Mapping:
    """The row at gain 1, whose n is stated; else that of the largest gain."""
    return next((row for row in rows if row["gain"] == 1.0), max(rows, key=lambda row: row["gain"]))


def _both_critical_gains(run: RunFrame) -> Table:
    """Conflicts as delivered with both critical gains; infinite where no gain in range flips the conflict."""
    if not {"critical_gain", "critical_gain_predicted"} <= set(run.readings.columns):
        return run.readings.iloc[:0]
    rows = measured_rows(run.readings, "conflict", "as-delivered")
    rows = rows.assign(measured=as_floats(rows["critical_gain"]), predicted=as_floats(rows["critical_gain_predicted"]))
    return rows.dropna(subset=["measured", "predicted"])


def _critical_gains(axes: Axes, rows: Table, room: float) -> None:
    """Measured against predicted critical gain; conflicts that never flip, or are predicted not to, are drawn at the edge."""
    finite = rows["measured"][np.isfinite(rows["measured"])]
    # Predictions are unbounded (an adapter margin near zero), so the axes follow the measured gains.
    edge = max(2.0, 1.15 * finite.max()) if len(finite) else 4.0
    low = min(0.0, float(finite.min())) if len(finite) else 0.0
    never = ~np.isfinite(rows["measured"])
    axes.axhspan(edge, edge * 1.12, color=NO, alpha=0.08, lw=0)
    axes.plot([low, edge], [low, edge], color=INK, lw=1)
    for subset, label, shade, marker in (
        (rows[~never], "flips in range", YES, "o"),
        (rows[never], "no gain in range flips it", NO, "D"),
    ):
        if len(subset):
            sns.scatterplot(
                x=subset["predicted"].clip(low, edge),
                y=subset["measured"].clip(upper=edge * 1.06),
                s=16,
                alpha=0.6,
                color=shade,
                marker=marker,
                linewidth=0,
                label=f"{label} ({len(subset)})",
                rasterized=len(subset) > CLOUD,
                ax=axes,
            )
    axes.set(
        xlim=(low - 0.04 * edge, edge * 1.04),
        ylim=(low - 0.04 * edge, edge * 1.12),
        title="Critical gain",
        xlabel="predicted: prior margin / adapter margin",
        ylabel="measured: least gain that flips top1",
    )
    write_size(axes, size_text(len(rows), rows["point"].nunique()))
    legend_below(axes, room, most=1, handletextpad=0.2)


def caption(summary: Mapping) -> Caption:
    """The caption, with the half gain and the share that no gain fixes, where known."""
    dose = section(summary, "dose")
    critical = dose.get("critical") or {}
    shows = "Success by gain: the same gain on every layer; gain 0 is the base model, gain 1 the adapter as delivered."
    if known_value(dose.get("half_gain")):
        shows += f" Half of the failures have flipped at gain {dose['half_gain']['value']:.2f}."
    if known_value(critical.get("not_rescuable")):
        never = critical["not_rescuable"]["value"]
        shows += f" No gain in range fixes {100 * never:.0f}%." if never else " Every failure was fixed by some gain."
    shows += (
        " Critical gain, where measured: the gain at which each conflict flips, against the gain predicted from its two margins. "
        "On the line the response is linear, as the prediction assumes. Marks on an edge lie beyond it."
    )
    rows = [
        row
        for row in dose.get("curve") or []
        if (row["split"], row["measure"]) == ("conflict", "top1") and known_value(row)
    ]
    return Caption(
        title="Does scaling the adapter up fix the failures, and at what cost?",
        shows=shows,
        computed="Success means that the document's token (for unrelated answers: the base model's own) is the most likely "
        "of all. A conflict flips at the least gain at which it succeeds, found by bisection.",
        n=size_sentence(_as_delivered(rows) if rows else None, "conflicts").removesuffix(".")
        + (" as delivered; each panel states its own." if rows else "."),
        interval=f"Bands: {SHARE}. Conflicts at their critical gain have no interval.",
        refutes="a conflict curve that stays low at every gain (the direction is wrong, not the size), or unrelated answers "
        "lost as fast as conflicts are won.",
    )
