"""Does the adapter margin stay constant where the prior margin grows?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.caption import Caption, size_sentence
from override_gap.reports.figures.style import (
    ADAPTED,
    CLOUD,
    INK,
    NARROW,
    OTHER,
    WIDE,
    FigureUnavailable,
    as_floats,
    canvas,
    figure,
    footnote,
    known_value,
    measured_rows,
    note_sentence,
    padded_limits,
    section,
    size_text,
    write_size,
)

NAMES = {"log_frequency": "log training frequency (natural log)", "prior_logprob": "prior strength, log P (nats)"}
PANELS = (("prior_margin", "prior margin", OTHER), ("adapter_margin", "adapter margin", ADAPTED))


def _axis(margins: Mapping) -> str:
    """Training frequency if slopes on it were measured, since it shares no term with either margin; else prior strength."""
    axes = {row["axis"] for row in margins.get("slopes") or [] if known_value(row)}
    return "log_frequency" if "log_frequency" in axes else "prior_logprob"


@figure
def constancy(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Prior margin and adapter margin side by side on one vertical scale, along training frequency or prior strength."""
    margins = section(summary, "margins")
    axis = _axis(margins)
    rows = measured_rows(run.readings, "conflict", "as-delivered")
    position = (
        np.log(as_floats(rows["frequency"]).where(lambda f: f > 0))
        if axis == "log_frequency"
        else as_floats(rows[axis])
    )
    rows = rows.assign(position=position, **{name: as_floats(rows[name]) for name, _, _ in PANELS})
    rows = rows.dropna(subset=["position", "prior_margin", "adapter_margin"])
    if rows.empty:
        raise FigureUnavailable(
            "no conflict has a prior margin, an adapter margin, and either a training frequency or a prior strength"
        )
    fig = canvas(NARROW, 5.4) if narrow else canvas(WIDE, 3.2)
    panels = fig.subplots(*((2, 1) if narrow else (1, 2)), sharex=True, sharey=True)
    for axes, (name, label, shade) in zip(panels, PANELS, strict=True):
        bitmap = len(rows) > CLOUD
        sns.scatterplot(
            data=rows, x="position", y=name, s=16, alpha=0.6, color=shade, linewidth=0, rasterized=bitmap, ax=axes
        )
        slope = _slope(margins, name, axis)
        if known_value(slope):
            interval = f" [{slope['low']:z.2f}, {slope['high']:z.2f}]" if slope.get("low") is not None else ""
            axes.annotate(f"slope {slope['value']:z.2f}{interval}", (0.03, 0.97), xycoords="axes fraction", va="top")
            _fitted_line(axes, slope, shade)
        axes.set(
            title=label, xlabel=NAMES[axis], ylabel="margin (nats)" if axes.get_subplotspec().is_first_col() else ""
        )
        axes.tick_params(labelbottom=True)
        write_size(axes, size_text(len(rows), rows["point"].nunique()))
    low, high = padded_limits([*rows["prior_margin"], *rows["adapter_margin"]])
    panels[0].set_ylim(low, high + 0.12 * (high - low))
    footnote(
        fig,
        "Lines: least squares. Brackets and bands: 95% intervals, clustered by knowledge point or relation (the wider).",
    )
    sns.despine(fig=fig)
    return fig


def _slope(margins: Mapping, quantity: str, axis: str) -> Mapping | None:
    """The slope of a margin on an axis, with the n of the conflicts that have a place on it."""
    rows = margins.get("slopes") or []
    return next((row for row in rows if (row["quantity"], row["axis"]) == (quantity, axis)), None)


def _fitted_line(axes: Axes, slope: Mapping, shade: str) -> None:
    """The fitted line with its band, where the summary gives them; without them the slope is only written."""
    line = slope.get("line") or []
    position = [row["at"] for row in line]
    axes.plot(position, [row["value"] for row in line], color=INK, lw=1.8)
    if line and all(row["low"] is not None for row in line):
        low, high = ([row[key] for row in line] for key in ("low", "high"))
        axes.fill_between(position, low, high, color=shade, alpha=0.25, lw=0)


def caption(summary: Mapping) -> Caption:
    """The caption, with the coefficients of variation where known."""
    margins = section(summary, "margins")
    axis = _axis(margins)
    shows = f"Both margins of each conflict against {NAMES[axis]}, on one vertical scale."
    spread = [(name, (margins.get(name) or {}).get("cv")) for name in ("prior", "adapter")]
    if all(value is not None for _, value in spread):
        shows += " Coefficient of variation: " + ", ".join(f"{name} {value:.2f}" for name, value in spread) + "."
    axis_note = (
        "The axis shares no term with either margin."
        if axis == "log_frequency"
        else "Training frequency is unknown here. Prior strength shares a term with both margins (the base model's logit of "
        "the old answer), so these slopes are less certain than their intervals say."
    )
    note = (margins.get("correlation") or {}).get("note")
    return Caption(
        title="Is the adapter margin the same however firmly the old answer is held?",
        shows=shows,
        computed="Slopes by least squares over questions. " + axis_note + note_sentence(note),
        n=size_sentence(_slope(margins, "prior_margin", axis)),
        interval="Slopes with 95% intervals, clustered by knowledge point or relation (the wider), in nats per unit of the "
        "axis; bands are pointwise 95% intervals of the fitted line.",
        refutes="an adapter margin that rises as steeply as the prior margin, so that it keeps pace with it, or one that "
        "falls, so that more than a fixed size is missing.",
    )
