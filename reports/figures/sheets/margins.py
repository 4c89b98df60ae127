"""Where does each item lie against the override line?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from override_gap.reports.figures.caption import Caption, counted
from override_gap.reports.figures.style import (
    CLOUD,
    INK,
    NO,
    PAPER,
    YES,
    FigureUnavailable,
    canvas,
    count,
    figure,
    measured,
    numbers,
    span,
    true,
)


def _rows(run):
    rows = measured(run.readings, "conflict", "as-delivered")
    rows = rows[numbers(rows["prior_margin"]).notna() & numbers(rows["adapter_margin"]).notna()]
    if rows.empty:
        raise FigureUnavailable(
            "no conflict was measured under the condition as-delivered, so there are no margins to compare"
        )
    return rows.assign(prior_margin=numbers(rows["prior_margin"]), adapter_margin=numbers(rows["adapter_margin"]))


@figure
def margins(run, summary: Mapping) -> Figure:
    """Prior margin against adapter margin with the line on which they are equal."""
    rows = _rows(run)
    made = canvas(6.0, 4.3)
    axes = made.subplots()
    across, up = span(rows["prior_margin"]), span(rows["adapter_margin"])
    ends = np.array(across)
    axes.fill_between(ends, ends, max(up[1], across[1]), color=YES, alpha=0.07, lw=0)
    axes.plot(ends, ends, color=INK, lw=1.3, label="override line: adapter margin = prior margin")
    won, known = true(rows["success_top1"]), true(rows["known"])
    for outcome, held, label in (
        (True, True, "overridden, base knew its answer"),
        (True, False, "overridden, base did not know"),
        (False, True, "not overridden, base knew its answer"),
        (False, False, "not overridden, base did not know"),
    ):
        part = rows[(won == outcome) & (known == held)]
        if part.empty:
            continue
        shade = YES if outcome else NO
        sns.scatterplot(
            data=part,
            x="prior_margin",
            y="adapter_margin",
            ax=axes,
            s=30 if held else 24,
            alpha=0.8,
            marker="o" if outcome else "D",
            facecolor=shade if held else PAPER,
            edgecolor=shade,
            linewidth=1.0,
            label=f"{label} ({len(part)})",
            legend=False,
            rasterized=len(part) > CLOUD,
        )
    axes.set(
        xlim=across,
        ylim=up,
        xlabel="prior margin (nats): how far the base prefers its own answer",
        ylabel="adapter margin (nats)",
    )
    count(axes, len(rows), rows["point"].nunique())
    made.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    sns.despine(fig=made)
    return made


def caption(summary: Mapping) -> Caption:
    """In words, with both margins' means and the criterion's agreement where known."""
    found = summary.get("margins") or {}
    prior, adapter = found.get("prior") or {}, found.get("adapter") or {}
    words = (
        "Each conflict by how far the base prefers its own answer (across) and how far the adapter as delivered "
        "moves it towards the document's (up). Above the line the document's answer outscores the held one. "
        "Colour and shape: whether the document's token was in fact the most likely of all."
    )
    if prior.get("mean") is not None and adapter.get("mean") is not None:
        words += f" Means: prior {prior['mean']:.2f}, adapter {adapter['mean']:.2f} nats."
    return Caption(
        title="Where does each conflict lie against the override line?",
        shows=words,
        computed="Logit differences at the first token where the two answers differ; adapter margin = push of the "
        "document's answer minus pull of the held one.",
        n=counted(prior),
        interval="No interval is drawn: every mark is one question.",
        refutes="overrides below the line, or failures above it beyond the few in which a third token wins: the "
        "criterion would not describe what the model says.",
    )
