"""Does the net margin predict what the model says?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.caption import SHARE, Caption, size_sentence
from override_gap.reports.figures.settle import legend_outside
from override_gap.reports.figures.style import (
    ADAPTED,
    BASE,
    INK,
    NARROW,
    OTHER,
    PAPER,
    WIDE,
    FigureUnavailable,
    canvas,
    figure,
    footnote,
    known_value,
    padded_limits,
    percent_ticks,
    section,
    size_text,
    whiskers,
    write_size,
)

SAID = {"top1": "the first token", "answer": "the whole greedy answer"}


def _rows(summary: Mapping, measure: str) -> list[Mapping]:
    rows = section(summary, "criterion").get("calibration") or []
    return [row for row in rows if row["measure"] == measure and known_value(row)]


@figure
def calibration(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Share of conflicts that the model answers as the document says, in bins of net margin, one panel per measure."""
    shown = [measure for measure in SAID if _rows(summary, measure)]
    if not shown:
        raise FigureUnavailable("no conflict has both a net margin and an answer")
    # also for one panel as wide as for two: the legend needs this width
    fig = canvas(NARROW, 1.4 + 2.4 * len(shown)) if narrow else canvas(WIDE, 3.6)
    columns = 1 if narrow else len(shown)
    panels = fig.subplots(len(shown) // columns, columns, sharex=True, sharey=True, squeeze=False).ravel()
    bins = [row for measure in shown for row in _rows(summary, measure)]
    limits = padded_limits([row[key] for row in bins for key in ("net_low", "net_high")])
    net_margins = np.linspace(*limits, 301)
    for axes, measure in zip(panels, shown, strict=True):
        axes.plot(
            [limits[0], 0, 0, limits[1]],
            [0, 0, 1, 1],
            color=INK,
            lw=1.2,
            label="predicted by the sign of the net margin",
        )
        by_size = 1 / (1 + np.exp(-net_margins))
        axes.plot(
            net_margins, by_size, color=BASE, lw=1.4, ls="--", label="by its size, if only the two answers competed"
        )
        rows = _rows(summary, measure)
        # The known conflicts are among all: thin marks over thick ones, so that both are visible where they coincide.
        for population, marker, shade, size, line in (("all", "o", ADAPTED, 7, 3.2), ("known", "D", OTHER, 4, 1.1)):
            subset = [row for row in rows if row["population"] == population]
            label = "said, all conflicts" if population == "all" else "said, where the model knew the old answer"
            for n, row in enumerate(subset):
                mean = row["net_mean"]
                axes.errorbar(
                    mean,
                    row["value"],
                    xerr=[[mean - row["net_low"]], [row["net_high"] - mean]],
                    yerr=whiskers(row),
                    fmt=marker,
                    ms=size,
                    color=shade,
                    mfc=PAPER if population == "known" else shade,
                    elinewidth=line,
                    label=label if n == 0 else None,
                )
        axes.set(xlim=limits, ylim=(-0.05, 1.05), title=measure, xlabel="net margin (nats)")
        axes.tick_params(labelbottom=True)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("share that says the document's answer")
        percent_ticks(axes.yaxis)
        everyone = [row for row in rows if row["population"] == "all"]
        write_size(axes, size_text(sum(row["n"] for row in everyone)))
    legend_outside(fig, *panels[0].get_legend_handles_labels(), loc="upper center", most=2)
    footnote(
        fig,
        "Vertical bars: 95% intervals, clustered by knowledge point or relation (the wider). "
        "Horizontal bars: the bin's range of net margin.",
    )
    sns.despine(fig=fig)
    return fig


def caption(summary: Mapping) -> Caption:
    """The caption, with how often the criterion and the answer agree as delivered."""
    if not any(_rows(summary, measure) for measure in SAID):
        raise FigureUnavailable("no conflict has both a net margin and an answer")
    agreed = [
        f"{row['measure']} {100 * row['value']:.1f}%"
        for row in section(summary, "criterion").get("agreement") or []
        if row["condition"] == "as-delivered" and row["measure"] in SAID and known_value(row)
    ]
    judged = [name for measure, name in SAID.items() if _rows(summary, measure)]
    by = " and ".join(f"by {way}" for way in judged)
    shows = (
        "Conflicts as delivered, in bins of net margin (up to four on either side of zero): the share of each bin for "
        f"which the model in fact said the document's answer, judged {by}."
    )
    if agreed:
        shows += " The sign of the net margin agrees with what was said: " + ", ".join(agreed) + "."
    rows = _rows(summary, "top1") or _rows(summary, "answer")
    n = sum(row["n"] for row in rows if row["population"] == "all")
    measure = rows[0]["measure"]
    return Caption(
        title="Does the criterion predict what the model says?",
        shows=shows,
        computed="By its sign: a net margin above zero predicts that the document's answer is said. By its size: "
        "1/(1+exp(-net margin)), its probability if only the two answers competed. Left of zero, top1 is zero by "
        "definition, since a token that scores below another is not the most likely; only the answer is a test there.",
        n=size_sentence({"n": n}, f"conflicts by {measure}").removesuffix(".") + "; each panel states its own.",
        interval=f"Vertical bars: {SHARE}. Horizontal bars are ranges, not intervals.",
        refutes="shares well below one right of zero (third tokens win), or document's answers said left of zero.",
    )
