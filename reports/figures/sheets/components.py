"""Is the push undone downstream: what the updates write, and what the base's own layers add to it or against it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.boxes import clear_ceiling
from override_gap.reports.figures.caption import MEAN, Caption, size_sentence
from override_gap.reports.figures.settle import settle
from override_gap.reports.figures.sheets.layers import readings_by_key
from override_gap.reports.figures.style import (
    ADAPTED,
    BASE,
    INK,
    NARROW,
    NO,
    OTHER,
    WIDE,
    FigureUnavailable,
    canvas,
    figure,
    footnote,
    note_sentence,
    section,
    size_text,
    whiskers,
    write_size,
)

PARTS = {
    "own": ("updates, base's stream", ADAPTED),
    "rest": ("updates, changed stream", OTHER),
    "response": ("base's layers", NO),
    "norm": ("final norm", BASE),
}
"""Part of the change, its label and colour."""
TOWARDS = "towards y_doc (nats)"


@figure
def components(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """The parts of the adapter margin in all and by layer, the base's answer by attention and MLP, a layer alone."""
    parts = section(summary, "components")
    rows = parts.get("layers") or []
    if not rows:
        raise FigureUnavailable("no component was measured; add components to --probes")
    totals = {row["part"]: row for row in parts["totals"]}
    alone = parts.get("alone") or []
    count = 4 if alone else 3
    fig = canvas(NARROW, 0.4 + 2.1 * count) if narrow else canvas(WIDE, 4.8)
    grid = list(fig.subplots(count, 1) if narrow else fig.subplots(2, 2).ravel())
    for unused in grid[count:]:
        unused.remove()
    panels = grid[:count]
    _totals(panels[0], totals)
    whole = [row for row in rows if row["component"] == "layer"]
    _curves(panels[1], whole, [(key, *PARTS[key]) for key in ("own", "rest", "response")])
    panels[1].set_title("By layer")
    for kind, label, shade in (("attention", "attention", OTHER), ("mlp", "MLP", ADAPTED)):
        _curves(panels[2], [row for row in rows if row["component"] == kind], [("response", label, shade)])
    panels[2].set_title("Base's layers")
    if alone:
        curves = [("own", "what it writes", ADAPTED), ("beyond", "what is added to it", NO)]
        _curves(panels[3], alone, curves)
        panels[3].set_title("One layer alone")
    for axes in panels[1:]:
        axes.set_ylabel(TOWARDS)
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    for axes in panels[:3]:
        write_size(axes, size_text(totals["change"]["n"]))
    if alone and (read := readings_by_key(run)["alone"]):  # the probe `causal` may have read fewer
        write_size(panels[3], size_text(min(read, totals["change"]["n"])))
    footnote(fig, "Bars and bands: 95% intervals of the mean, clustered by knowledge point or relation (the wider).")
    sns.despine(fig=fig)
    settle(fig)
    for axes in panels[1:]:
        clear_ceiling(axes)
    return fig


def _totals(axes: Axes, totals: Mapping[str, Mapping]) -> None:
    """The mean change of the margin and its parts."""
    names = {"change": ("adapter margin", INK), **PARTS}
    for place, (key, (_, shade)) in enumerate(names.items()):
        row = totals[key]
        axes.barh(place, row["value"], color=shade, height=0.6)
        if row["low"] is not None:
            axes.errorbar(row["value"], place, xerr=whiskers(row), color=INK, lw=1)
    axes.axvline(0, color=INK, lw=0.7)
    axes.set_yticks(range(len(names)), [label for label, _ in names.values()])
    axes.invert_yaxis()
    axes.set(title="In all", xlabel=TOWARDS)


def _curves(axes: Axes, rows: Sequence[Mapping], curves: Sequence[tuple[str, str, str]]) -> None:
    """Means over depth with their bands."""
    depths = [row["layer"] for row in rows]
    for key, label, shade in curves:
        bands = [row[key] for row in rows]
        axes.plot(depths, [band["mean"] for band in bands], color=shade, lw=1.5, marker="o", markersize=3, label=label)
        if all(band["low"] is not None for band in bands):
            lows, highs = ([band[end] for band in bands] for end in ("low", "high"))
            axes.fill_between(depths, lows, highs, color=shade, alpha=0.22, lw=0)
    axes.axhline(0, color=INK, lw=0.7)
    axes.legend(loc="upper left", fontsize=7, frameon=False)


def caption(summary: Mapping) -> Caption:
    """The caption, with the share that the base's own layers take back."""
    parts = section(summary, "components")
    share = parts.get("answered") or {}
    shows = (
        "The change of the margin from the base to the adapted model, split exactly: what the updates of a layer write "
        "while the stream that enters it is the base's; what they make of the change that lower layers' updates brought; what "
        "the base's own layers, without updates, make of that change; and what the final norm's scale does to all alike. Then "
        "the base's own layers by attention and MLP and, where measured, the adapter margin of one layer's updates alone."
    )
    if share.get("value") is not None and share.get("low") is not None:
        shows += (
            f" Of what the updates write, the base's own layers take back {share['value']:z.0%} [{share['low']:z.0%}, "
            f"{share['high']:z.0%}] (negative: they add)."
        )
    return Caption(
        title="Is the push undone downstream?",
        shows=shows,
        computed="Each layer is run four times: with and without its updates, on the stream that enters it in the base and in "
        "the adapted model; all shares at the adapted model's final scale, positive towards the document's answer, before any "
        "logit cap." + note_sentence(parts.get("note")),
        n=size_sentence((parts.get("totals") or [None])[0], "conflicts"),
        interval=f"Bars and bands are {MEAN}, a 95% interval each.",
        refutes="for the claim that later layers undo the push: a response of the base's own layers that is not negative.",
    )
