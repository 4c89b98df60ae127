"""Which layers hold the update, and which its effect?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.boxes import clear_ceiling
from override_gap.reports.figures.caption import MEAN, Caption
from override_gap.reports.figures.settle import settle
from override_gap.reports.figures.style import (
    ADAPTED,
    BASE,
    INK,
    NARROW,
    NEUTRAL,
    OTHER,
    WIDE,
    FigureUnavailable,
    as_floats,
    canvas,
    figure,
    footnote,
    measured_rows,
    note_sentence,
    plain_label,
    section,
    size_range,
    size_text,
    write_size,
)

Curves = tuple[tuple[str, str | None, str], ...]

#: Panel title, its curves (key of the profile, label, colour) and vertical axis, in the order of the argument.
PANELS: tuple[tuple[str, Curves, str], ...] = (
    ("Update norm", (("norm", None, ADAPTED),), "Frobenius norm"),
    (
        "Attribution",
        (("attribution_base", "base", BASE), ("attribution_adapted", "adapted", ADAPTED)),
        "share of margin (nats)",
    ),
    ("Lens", (("lens_base", "base", BASE), ("lens_adapted", "adapted", ADAPTED)), "margin so far (nats)"),
    ("Direct effect", (("direct", None, ADAPTED),), "towards document's answer (nats)"),
    (
        "Gain path",
        (("path", "share, gains 0 to 1", ADAPTED), ("path_first", "slope at gain 0", OTHER)),
        "share of adapter margin (nats)",
    ),
    (
        "Causal",
        (("alone", "this layer alone", ADAPTED), ("removed", "all but this layer", OTHER)),
        "adapter margin (nats)",
    ),
)

COLUMNS = {
    "norm": ("norm", "as-delivered"), "attribution_base": ("attribution", "base"),
    "attribution_adapted": ("attribution", "as-delivered"), "lens_base": ("lens", "base"),
    "lens_adapted": ("lens", "as-delivered"), "direct": ("direct", "as-delivered"), "path": ("path", "as-delivered"),
    "path_first": ("path_first", "as-delivered"), "alone": ("alone", "as-delivered"),
    "removed": ("removed", "as-delivered"),
}  # fmt: skip
"""Column and condition of the readings of layers that each key of the profile is the mean of."""


@figure
def layers(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """One panel each over depth: norm, attribution, lens, direct effect, causal effect, layers chosen."""
    by_layer = section(summary, "layers")
    profile = by_layer.get("profile") or []
    shown = [panel for panel in PANELS if any(_values(profile, key) for key, _, _ in panel[1])]
    if not shown:
        raise FigureUnavailable("no layer was measured")
    chosen = [row for row in by_layer.get("chosen") or [] if row.get("share")]
    cells = len(shown) + bool(chosen)
    columns = min(cells, 2 if narrow else 3)
    # on a narrow page the policies' names need the whole width: their panel is a line of its own
    alone = bool(chosen) and narrow
    lines = -(-(cells - alone) // columns) + alone
    fig = canvas(NARROW if narrow else WIDE, 2.3 * lines + 0.3)
    whole = fig.add_gridspec(1 + alone, 1, height_ratios=[lines - 1, 1] if alone else None)
    grid = whole[0].subgridspec(lines - alone, columns)
    panels: list[Axes] = []
    for cell in range(cells):
        place = whole[1] if alone and cell == cells - 1 else grid[cell // columns, cell % columns]
        panels.append(fig.add_subplot(place, sharex=panels[0] if panels else None))
    counts = readings_by_key(run)
    for axes, (title, curves, label) in zip(panels, shown, strict=False):
        _curves(axes, profile, curves)
        axes.set(title=title, ylabel=label)
        if any(counts[key] for key, _, _ in curves):
            write_size(axes, size_text(max(counts[key] for key, _, _ in curves)))
    if chosen:
        _choices(panels[-1], chosen)
        write_size(panels[-1], _policy_sizes(run, {str(row["condition"]) for row in chosen}))
    for n, axes in enumerate(panels):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        lowest = n + columns >= cells - alone
        axes.tick_params(labelbottom=lowest)
        if lowest:
            axes.set_xlabel("layer (\u22121: embedding)")
    footnote(
        fig,
        "Bands: 95% intervals of the mean, clustered by knowledge point or relation (the wider)."
        + " Squares: area is the share of items." * bool(chosen),
    )
    sns.despine(fig=fig)
    settle(fig)
    for axes in panels:
        clear_ceiling(axes)
    return fig


def readings_by_key(run: RunFrame) -> dict[str, int]:
    """Conflicts with a reading at any layer, by key of the profile; a probe may have read only some of them."""
    counts = {}
    for condition in ("as-delivered", "base"):
        measured = measured_rows(run.readings, "conflict", condition)["item"]
        rows = run.layers
        rows = rows[(rows["condition"] == condition) & rows["item"].isin(measured)] if len(rows) else rows
        for key, (column, of) in COLUMNS.items():
            if of == condition:
                there = column in rows.columns and len(rows) > 0
                counts[key] = int(rows["item"][np.isfinite(as_floats(rows[column]))].nunique()) if there else 0
    return counts


def _policy_sizes(run: RunFrame, names: set[str]) -> str:
    """'n = 194', or the range over the policies of how many conflicts' layers are known."""
    rows = run.layers[
        (run.layers["split"] == "conflict") & run.layers["condition"].isin(names) & (run.layers["layer"] >= 0)
    ]
    rows = rows[as_floats(rows["gain"]).notna()]
    counts = sorted(rows.groupby("condition")["item"].nunique())
    return size_range(counts) if counts else ""


def _values(profile: list[Mapping], key: str) -> list[tuple[int, Mapping]]:
    """Each layer that has this quantity, with its mean and interval."""
    return [(row["layer"], row[key]) for row in profile if row.get(key) and row[key].get("mean") is not None]


def _curves(axes: Axes, profile: list[Mapping], curves: Curves) -> None:
    """Means over depth with their bands."""
    for key, label, shade in curves:
        means = _values(profile, key)
        if not means:
            continue
        depths = [layer for layer, _ in means]
        sns.lineplot(
            x=depths,
            y=[row["mean"] for _, row in means],
            color=shade,
            lw=1.5,
            marker="o",
            markersize=3.5,
            markeredgewidth=0,
            label=label,
            legend=False,
            ax=axes,
        )
        if all(row.get("low") is not None and row.get("high") is not None for _, row in means):
            axes.fill_between(
                depths,
                [row["low"] for _, row in means],
                [row["high"] for _, row in means],
                color=shade,
                alpha=0.22,
                lw=0,
            )
    if any(row["mean"] < 0 for key, _, _ in curves for _, row in _values(profile, key)):
        axes.axhline(0, color=INK, lw=0.7)
    if any(label for _, label, _ in curves):
        axes.legend(loc="upper center", frameon=False)


def _choices(axes: Axes, chosen: list[Mapping]) -> None:
    """One line per policy; a square's area is the share of items for which the layer was boosted."""
    names = list(dict.fromkeys(row["condition"] for row in chosen))
    sns.scatterplot(
        x=[row["layer"] for row in chosen],
        y=[names.index(row["condition"]) for row in chosen],
        marker="s",
        size=[float(row["share"]) for row in chosen],
        sizes=(0, 60),
        size_norm=(0, 1),
        color=NEUTRAL,
        linewidth=0,
        legend=False,
        ax=axes,
    )
    axes.set_yticks(range(len(names)), [plain_label(name, 18) for name in names])
    axes.set(ylim=(len(names) - 0.4, -0.6), title="Layers chosen", ylabel="")


def caption(summary: Mapping) -> Caption:
    """The caption, with the association of norm and effect where known."""
    by_layer = section(summary, "layers")
    effect = by_layer.get("norm_effect") or {}
    shows = (
        "Over depth: the update's Frobenius norm; each layer's share of the margin (final norm frozen, shares sum to "
        "the margin before any logit cap); the margin if the model stopped there (each layer's own norm); what the "
        "update itself writes towards the document's answer; and, where measured, the layer's share of the adapter margin "
        "along the path of gains (shares sum to it), and the adapter margin with one layer alone or removed."
    )
    if effect.get("value") is not None:
        shows += (
            f" Spearman correlation of norm with effect over layers: {effect['value']:z.2f} "
            f"[{effect['low']:z.2f}, {effect['high']:z.2f}]."
            if effect.get("low") is not None
            else f" Spearman correlation of norm with effect over layers: {effect['value']:z.2f}."
        )
    return Caption(
        title="Is the adapter large where it has effect?",
        shows=shows,
        computed="Attribution and lens are of the margin of the old answer over the document's (positive favours the "
        "old answer); direct and causal are in units of the adapter margin (positive favours the document's answer)."
        + note_sentence(by_layer.get("note")),
        n="n, stated on each panel, is the number of conflicts with such readings.",
        interval=f"Lines are means over conflicts; bands are {MEAN}.",
        refutes="effect in layers where the update is small, or none where it is large: choosing layers by norm would "
        "then boost the wrong ones.",
    )
