"""Does what the net margin predicts come true?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from override_gap.reports.figures.caption import SHARE, Caption, counted
from override_gap.reports.figures.style import (
    ADAPTED,
    BASE,
    INK,
    OTHER,
    PAPER,
    FigureUnavailable,
    canvas,
    count,
    figure,
    footnote,
    known_value,
    percent,
    section,
    span,
    whiskers,
)

SAID = {"top1": "the first token", "answer": "the whole greedy answer"}


def _rows(summary: Mapping, measure: str) -> list[Mapping]:
    rows = section(summary, "criterion").get("calibration") or []
    return [row for row in rows if row["measure"] == measure and known_value(row)]


@figure
def calibration(run, summary: Mapping) -> Figure:
    """Share of conflicts that the model answers as the document says, in bins of net margin, a panel a measure."""
    shown = [measure for measure in SAID if _rows(summary, measure)]
    if not shown:
        raise FigureUnavailable("no conflict has both a net margin and something that was said")
    made = canvas(7.2, 3.6)  # one panel takes the width of two: the legend does not fit over less
    panels = made.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    every = [row for measure in shown for row in _rows(summary, measure)]
    limits = span([row[key] for row in every for key in ("net_low", "net_high")])
    across = np.linspace(*limits, 301)
    for axes, measure in zip(panels, shown, strict=True):
        axes.plot([limits[0], 0, 0, limits[1]], [0, 0, 1, 1], color=INK, lw=1.2, label="predicted by its sign")
        by_size = 1 / (1 + np.exp(-across))
        axes.plot(across, by_size, color=BASE, lw=1.4, ls="--", label="by its size, between the two answers alone")
        rows = _rows(summary, measure)
        # The known ones are among all: thin over thick, so that both are seen where they fall together.
        for population, marker, shade, size, line in (("all", "o", ADAPTED, 7, 3.2), ("known", "D", OTHER, 4, 1.1)):
            own = [row for row in rows if row["population"] == population]
            label = "said, all conflicts" if population == "all" else "said, conflicts that the base knows"
            for number, row in enumerate(own):
                at = row["net_mean"]
                axes.errorbar(
                    at,
                    row["value"],
                    xerr=[[at - row["net_low"]], [row["net_high"] - at]],
                    yerr=whiskers(row),
                    fmt=marker,
                    ms=size,
                    color=shade,
                    mfc=PAPER if population == "known" else shade,
                    elinewidth=line,
                    label=label if number == 0 else None,
                )
        axes.set(xlim=limits, ylim=(-0.05, 1.05), title=measure, xlabel="net margin (nats)")
        percent(axes.yaxis)
        everyone = [row for row in rows if row["population"] == "all"]
        count(axes, sum(row["n"] for row in everyone))
    panels[0].set_ylabel("share that says the document's answer")
    handles, labels = panels[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    footnote(
        made, "Upright bars: 95% intervals clustered by knowledge point. Level bars: the bin's range of net margin."
    )
    sns.despine(fig=made)
    return made


def caption(summary: Mapping) -> Caption:
    """In words, with the agreement of sign and speech as delivered."""
    if not any(_rows(summary, measure) for measure in SAID):
        raise FigureUnavailable("no conflict has both a net margin and something that was said")
    agreed = [
        f"{row['measure']} {100 * row['value']:.1f}%"
        for row in section(summary, "criterion").get("agreement") or []
        if row["condition"] == "as-delivered" and row["measure"] in SAID and known_value(row)
    ]
    said = [words for measure, words in SAID.items() if _rows(summary, measure)]
    by = f"left by {said[0]}, right by {said[1]}" if len(said) == 2 else f"by {said[0]}"
    words = (
        "Conflicts as delivered in bins of net margin (up to four on either side of zero), and in each the share for "
        f"which the document's answer was in fact said: {by}."
    )
    if agreed:
        words += " Sign and speech agree: " + ", ".join(agreed) + "."
    rows = _rows(summary, "top1") or _rows(summary, "answer")
    n = sum(row["n"] for row in rows if row["population"] == "all")
    measure = rows[0]["measure"]
    return Caption(
        title="Does the criterion predict what the model says?",
        shows=words,
        computed="By its sign: net margin above zero predicts that it is said. By its size: 1 / (1 + exp(-net margin)), "
        "the document's share between the two answers. Left of zero top1 is zero by definition, since a token below "
        "another is not the arg max; what can fail there is only the answer.",
        n=counted({"n": n}, f"conflicts by {measure}").removesuffix(".") + "; each panel states its own.",
        interval=f"Upright bars: {SHARE}. Level bars are ranges, no intervals.",
        refutes="shares well below one right of zero (third tokens win), or answers said left of it.",
    )
