"""The account as a mechanism in one item: by gain of the adapter, by dose of prior, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.caption import Caption
from override_gap.reports.figures.settle import broken, legend_below
from override_gap.reports.figures.style import (
    ADAPTED,
    BASE,
    INK,
    NARROW,
    NO,
    WIDE,
    YES,
    FigureUnavailable,
    canvas,
    figure,
    footnote,
    padded_limits,
    plain_label,
    section,
    write_size,
)

#: Gains beyond this are left out of the picture: where the search goes on to hundreds, the delivered gain would not be seen.
LARGEST_GAIN = 8.0


@figure
def one_item(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Net margin of one conflict by gain, by dose of prior, and from the base's margin to the adapted one layer by layer."""
    item = section(summary, "one_item")
    if not item["doses"] and item["by"] != "path":
        raise FigureUnavailable("no dose of prior and no gain path was read; add prior-dose or gain-path to --probes")
    panels = [
        panel for panel, there in ((_by_gain, True), (_by_dose, item["doses"]), (_by_layer, item["shares"])) if there
    ]
    count = len(panels)
    fig = canvas(NARROW, 1.0 + 2.3 * count) if narrow else canvas(WIDE, 3.5)
    axes_row = fig.subplots(*((count, 1) if narrow else (1, count)), sharey=True, squeeze=False).ravel()
    for axes, panel in zip(axes_row, panels, strict=True):
        panel(axes, item)
        axes.axhline(0, color=INK, lw=0.8)
    axes_row[0].set_ylim(*padded_limits(_heights(item), 0.1))
    for axes in axes_row if narrow else axes_row[:1]:
        axes.set_ylabel("net margin (nats)")
    old = plain_label(item["prior_answer"] or "not named", 24)
    answers = f"document: {plain_label(item['answer'], 24)}; old answer: {old}"
    title = f"{plain_label(item['question'], 70)}\n{answers}"
    fig.suptitle(broken(fig, title, 8.5, 0.97 * fig.bbox.width), fontsize=8.5)
    footnote(
        fig,
        "Above 0 the document's answer leads; filled: it comes first of all. Dashed: a response linear in the gain; by dose, a "
        "constant adapter margin.",
    )
    sns.despine(fig=fig)
    if item["doses"]:
        legend_below(axes_row[1], NARROW if narrow else WIDE / 3, most=1)
    return fig


def _heights(item: Mapping) -> list[float]:
    """Every net margin that is drawn."""
    gains = [row["net_margin"] for row in item["gains"] if row["at"] <= LARGEST_GAIN]
    doses = [value for row in item["doses"] for value in (row["net_margin"], -row["base_margin"])]
    steps = -item["prior_margin"] + np.cumsum([0.0, *(row["share"] for row in item["shares"])])
    return [*gains, *doses, *steps.tolist()]


def _marks(axes: Axes, rows: Sequence[Mapping]) -> None:
    """One mark per reading, filled where the document's answer comes first, on a line."""
    xs, ys = [row["at"] for row in rows], [row["net_margin"] for row in rows]
    axes.plot(xs, ys, color=ADAPTED, lw=1.4, zorder=2)
    for row in rows:
        shade = YES if row["first"] else NO
        axes.plot(
            row["at"], row["net_margin"], marker="o", ms=5, color=shade, mfc=shade if row["first"] else "none", zorder=3
        )


def _by_gain(axes: Axes, item: Mapping) -> None:
    rows = [row for row in item["gains"] if row["at"] <= LARGEST_GAIN]
    _marks(axes, rows)
    ends = np.array([0.0, max(row["at"] for row in rows)])
    axes.plot(ends, -item["prior_margin"] + ends * item["adapter_margin"], color=INK, lw=1, ls="--", zorder=1)
    axes.axvline(1.0, color=INK, lw=0.7, ls=":")
    axes.set(title="Gain of the adapter", xlabel="gain (0: base, 1: as delivered)")
    write_size(axes, f"n = {len(rows)} gains")


def _by_dose(axes: Axes, item: Mapping) -> None:
    rows = item["doses"]
    _marks(axes, rows)
    axes.plot(
        [row["at"] for row in rows],
        [-row["base_margin"] for row in rows],
        color=BASE,
        lw=1.2,
        marker="s",
        ms=3,
        label="base alone",
    )
    start = min(rows, key=lambda row: abs(row["at"]))
    ends = np.array([rows[0]["at"], rows[-1]["at"]])
    axes.plot(ends, start["net_margin"] - (ends - start["at"]), color=INK, lw=1, ls="--", zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set(title="Dose of prior", xlabel="prior margin added (nats)")
    write_size(axes, f"n = {len(rows)} doses")


def _by_layer(axes: Axes, item: Mapping) -> None:
    """From minus the prior margin to the net margin: each layer's share as a step."""
    shares = [row["share"] for row in item["shares"]]
    ends = -item["prior_margin"] + np.cumsum(shares)
    starts = ends - shares
    numbers = [row["layer"] for row in item["shares"]]
    shades = [YES if share >= 0 else NO for share in shares]
    axes.bar(numbers, shares, bottom=starts, color=shades, width=0.75, lw=0, zorder=2)
    axes.hlines(ends[:-1], numbers[:-1], numbers[1:], color=INK, lw=0.7, zorder=3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set(title="Layer by layer", xlabel="layer" + (" (\u22121: embedding)" if numbers[0] < 0 else ""))
    write_size(axes, f"n = {len(numbers)} layers")


def caption(summary: Mapping) -> Caption:
    """The caption; it says which item was chosen and how."""
    item = section(summary, "one_item")
    shares = (
        "integrated gradients along the uniform gains from 0 to 1, which sum to the adapter margin"
        if item["by"] == "path"
        else "changes of attribution from base to adapted model, which sum to the adapter margin and are no intervention"
    )
    return Caption(
        title="What happens in one item?",
        shows=f"Item {plain_label(item['item'], 60)}: of the known conflicts that fail as delivered (of all, where none fails), "
        "those read under the most doses, the one of median net margin. By gain: its net margin as the adapter is scaled. By "
        "dose, where measured: the same adapter on a base whose prior margin was raised or lowered. Layer by "
        "layer: from the base's margin to the adapted one.",
        computed=f"Each mark is one reading. Layers: {shares}.",
        n="n = 1 item, chosen as said.",
        interval="No interval: one item shows how, not how often.",
        refutes="marks that leave the dashed lines: the response is then not linear in the gain, or the "
        "adapter's margin depends on the prior.",
    )
