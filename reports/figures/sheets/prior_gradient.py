"""Are firmly held facts harder to override?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.boxes import place_labels
from override_gap.reports.figures.caption import SHARE, Caption, size_sentence
from override_gap.reports.figures.settle import legend_below, settle
from override_gap.reports.figures.style import (
    ADAPTED,
    CLOUD,
    INK,
    NARROW,
    NO,
    WIDE,
    YES,
    FigureUnavailable,
    as_floats,
    canvas,
    figure,
    footnote,
    is_true,
    known_value,
    measured_rows,
    note_sentence,
    percent_ticks,
    section,
    size_text,
    whiskers,
    write_size,
)


@figure
def prior_gradient(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Success by quarter of prior strength, and failure along it with the logistic fit."""
    gradient = section(summary, "prior_gradient")
    quarters = [row for row in gradient["quartiles"] if known_value(row)]
    if not quarters:
        raise FigureUnavailable("no quarter of prior strength has a measured conflict")
    fig = canvas(NARROW, 7.4) if narrow else canvas(WIDE, 3.9)
    left, right = fig.subplots(2, 1) if narrow else fig.subplots(1, 2, width_ratios=(1, 1.1))
    _by_quarter(left, gradient, quarters)
    _by_item(right, run, gradient, quarters)
    footnote(
        fig,
        "Thick bars, bars of squares and band: 95% intervals, clustered by knowledge point or relation (the wider).",
    )
    sns.despine(fig=fig)
    for axes in (left, right):
        legend_below(axes, NARROW if narrow else WIDE / 2)
    settle(fig)
    place_labels(left, [(f"{100 * row['value']:.0f}%", (float(row["quartile"]), row["value"])) for row in quarters], 8)
    return fig


def _by_quarter(axes: Axes, gradient: Mapping, quarters: list[Mapping]) -> None:
    """Success in each quarter, with the clustered interval (thick) and one as if questions were independent (thin)."""
    for row in quarters:
        x = row["quartile"]
        if row.get("wilson_low") is not None:
            axes.plot([x + 0.12] * 2, [row["wilson_low"], row["wilson_high"]], color=INK, lw=1, alpha=0.7)
        axes.errorbar(x, row["value"], yerr=whiskers(row), fmt="o", color=YES, ms=6, lw=2.2, capsize=0)
    axes.plot([row["quartile"] for row in quarters], [row["value"] for row in quarters], color=YES, lw=0.8, alpha=0.5)
    axes.plot([], [], color=YES, lw=2.2, label="95%, clustered")
    axes.plot([], [], color=INK, lw=1, alpha=0.7, label="95%, as if independent")
    labels = [f"{row['prior_low']:.2g} to\n{row['prior_high']:.2g}\nn = {row['n']}" for row in quarters]
    axes.set_xticks([row["quartile"] for row in quarters], labels)
    axes.set(
        xlim=(0.3, 4.5),
        ylim=(-0.04, 1.04),
        xlabel="quarter of prior strength, log P (nats): weakly to firmly held",
        ylabel=f"conflicts overridden ({gradient.get('measure', 'top1')})",
        title="By quarter",
    )
    percent_ticks(axes.yaxis)
    write_size(axes, size_text(**_size(gradient)))


def _size(gradient: Mapping) -> dict:
    """Questions and knowledge points in all four quarters; the number of points is known from the regression alone."""
    logit = gradient.get("logit") or {}
    return {"n": logit.get("n") or sum(row["n"] for row in gradient["quartiles"]), "points": logit.get("points")}


def _by_item(axes: Axes, run: RunFrame, gradient: Mapping, quarters: list[Mapping]) -> None:
    """Each conflict as overridden or failed along prior strength, with the logistic fit and the quarters."""
    rows = measured_rows(run.readings, "conflict", gradient.get("condition", "as-delivered"))
    column = f"success_{gradient.get('measure', 'top1')}"
    rows = rows[rows[column].notna() & as_floats(rows["prior_logprob"]).notna()]
    if gradient.get("population") == "known":
        rows = rows[is_true(rows["known"])]
    strength, failed = as_floats(rows["prior_logprob"]), ~is_true(rows[column])
    # Jitter, with a fixed seed so that the figure is the same every time.
    height = failed + np.random.default_rng(0).uniform(-0.035, 0.035, len(rows))
    sns.scatterplot(
        x=strength,
        y=height,
        hue=failed.map({True: "failed", False: "overridden"}),
        s=14,
        alpha=0.55,
        palette={"failed": NO, "overridden": YES},
        hue_order=["overridden", "failed"],
        linewidth=0,
        legend=False,
        rasterized=len(rows) > CLOUD,
        ax=axes,
    )
    for shade, label in ((YES, "overridden"), (NO, "failed")):
        axes.plot([], [], ls="none", marker="o", ms=4, color=shade, label=label)
    logit = gradient.get("logit") or {}
    curve = logit.get("curve") or []
    if curve:
        strengths = [row["prior_logprob"] for row in curve]
        axes.plot(strengths, [row["failure"] for row in curve], color=INK, lw=1.6, label="logistic fit")
        if all(row.get("low") is not None for row in curve):
            axes.fill_between(
                strengths,
                [row["low"] for row in curve],
                [row["high"] for row in curve],
                color=INK,
                alpha=0.14,
                lw=0,
                label="95%, clustered errors",
            )
    axes.plot([], [], marker="s", ms=4, lw=1.4, color=ADAPTED, label="quarters, 95%")
    for row in quarters:
        middle = (row["prior_low"] + row["prior_high"]) / 2
        below, above = whiskers(row)
        axes.errorbar(
            middle,
            1 - row["value"],
            yerr=[above, below],  # failure is 1 - success
            fmt="s",
            color=ADAPTED,
            ms=4,
            lw=1.4,
        )
    axes.set(
        ylim=(-0.1, 1.1),
        xlabel="prior strength, log P(old answer) (nats)",
        ylabel="failure",
        title="By item",
    )
    if quarters[len(quarters) // 2]["prior_low"] > -0.5:
        # Half of the priors are near certainty (log P near 0) and would fall on one spot of a linear axis.
        axes.set_xscale("symlog", linthresh=0.1)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlim(right=0.01)
    percent_ticks(axes.yaxis)
    write_size(axes, size_text(len(rows), rows["point"].nunique()))


def caption(summary: Mapping) -> Caption:
    """The caption, with the gap and the coefficient where they were computed."""
    gradient = section(summary, "prior_gradient")
    gap, logit = gradient.get("gap"), gradient.get("logit") or {}
    shows = "By quarter: share of conflicts overridden in each quarter of prior strength, with its range in nats."
    if known_value(gap):
        shows += f" Weakly held minus firmly held: {100 * gap['value']:z.0f} percentage points."
    fit = "By item: each conflict as overridden (0) or failed (1)"
    if logit.get("coef") is not None:
        kind = "penalised logistic" if logit.get("method") == "penalised" else "logistic"
        fit += f"; {kind} regression gives {logit['coef']:z.2f} log-odds of failure per standard deviation"
    return Caption(
        title="Are firmly held facts harder to override?",
        shows=f"{shows} {fit}." + note_sentence(logit.get("note")),
        computed=f"Prior strength is the base model's log-probability of the old answer, summed over tokens; "
        f"condition {gradient.get('condition', 'as-delivered')}, measure {gradient.get('measure', 'top1')}, "
        f"population: {gradient.get('population', 'all')}.",
        n=size_sentence(_size(gradient)),
        interval=f"Thick: {SHARE}. Thin: 95% Wilson intervals as if questions were independent. The regression's "
        "errors are clustered by knowledge point.",
        refutes="quarters that succeed alike, or a coefficient whose interval holds zero: failure would then have another "
        "cause.",
    )
