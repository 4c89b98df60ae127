"""Where does each conflict lie relative to the override line?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame, Table
from override_gap.reports.figures.caption import Caption, size_sentence
from override_gap.reports.figures.settle import legend_outside
from override_gap.reports.figures.style import (
    CLOUD,
    INK,
    NARROW,
    NO,
    PAPER,
    WIDE,
    YES,
    FigureUnavailable,
    as_floats,
    canvas,
    figure,
    is_true,
    measured_rows,
    padded_limits,
    size_text,
    write_size,
)


def _conflicts_with_margins(run: RunFrame) -> Table:
    rows = measured_rows(run.readings, "conflict", "as-delivered")
    rows = rows[as_floats(rows["prior_margin"]).notna() & as_floats(rows["adapter_margin"]).notna()]
    if rows.empty:
        raise FigureUnavailable(
            "no conflict was measured under the condition as-delivered, so there are no margins to compare"
        )
    return rows.assign(prior_margin=as_floats(rows["prior_margin"]), adapter_margin=as_floats(rows["adapter_margin"]))


@figure
def margins(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Prior margin against adapter margin with the line on which they are equal."""
    rows = _conflicts_with_margins(run)
    fig = canvas(NARROW, 4.9) if narrow else canvas(WIDE, 4.6)
    axes = fig.subplots()
    x_limits, y_limits = padded_limits(rows["prior_margin"]), padded_limits(rows["adapter_margin"])
    ends = np.array(x_limits)
    axes.fill_between(ends, ends, max(y_limits[1], x_limits[1]), color=YES, alpha=0.07, lw=0)
    axes.plot(ends, ends, color=INK, lw=1.3, label="override line: adapter margin = prior margin")
    won, known = is_true(rows["success_top1"]), is_true(rows["known"])
    for overridden, model_knew, label in (
        (True, True, "overridden, model knew the old answer"),
        (True, False, "overridden, model did not know it"),
        (False, True, "not overridden, model knew the old answer"),
        (False, False, "not overridden, model did not know it"),
    ):
        subset = rows[(won == overridden) & (known == model_knew)]
        if subset.empty:
            continue
        shade = YES if overridden else NO
        sns.scatterplot(
            data=subset,
            x="prior_margin",
            y="adapter_margin",
            ax=axes,
            s=30 if model_knew else 24,
            alpha=0.8,
            marker="o" if overridden else "D",
            facecolor=shade if model_knew else PAPER,
            edgecolor=shade,
            linewidth=1.0,
            label=f"{label} ({len(subset)})",
            legend=False,
            rasterized=len(subset) > CLOUD,
        )
    axes.set(
        xlim=x_limits,
        ylim=y_limits,
        xlabel="prior margin (nats): how far the base model prefers the old answer",
        ylabel="adapter margin (nats)",
    )
    write_size(axes, size_text(len(rows), rows["point"].nunique()))
    legend_outside(fig, *axes.get_legend_handles_labels(), loc="lower center", most=2)
    sns.despine(fig=fig)
    return fig


def caption(summary: Mapping) -> Caption:
    """The caption, with the means of both margins where known."""
    results = summary.get("margins") or {}
    prior, adapter = results.get("prior") or {}, results.get("adapter") or {}
    shows = (
        "Each conflict by how far the base model prefers the old answer (across) and how far the adapter as delivered "
        "moves it towards the document's (up). Above the line the document's answer outscores the old one. "
        "Colour and shape: whether the document's token was in fact the most likely of all."
    )
    if prior.get("mean") is not None and adapter.get("mean") is not None:
        shows += f" Means: prior {prior['mean']:z.2f}, adapter {adapter['mean']:z.2f} nats."
    return Caption(
        title="Where does each conflict lie relative to the override line?",
        shows=shows,
        computed="Logit differences at the first token where the two answers differ; adapter margin = push of the "
        "document's answer minus pull of the old one.",
        n=size_sentence(prior),
        interval="No interval is drawn: every mark is one question.",
        refutes="overrides below the line, or more failures above it than the few in which a third token wins: the "
        "criterion would then not describe what the model says.",
    )
