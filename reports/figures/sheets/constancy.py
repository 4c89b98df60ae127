"""Does the adapter's margin stay level where the prior's grows?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from override_gap.reports.figures.caption import Caption, counted
from override_gap.reports.figures.style import (
    ADAPTED,
    CLOUD,
    INK,
    OTHER,
    FigureUnavailable,
    canvas,
    count,
    figure,
    footnote,
    known_value,
    measured,
    numbers,
    section,
    span,
    stated,
)

NAMES = {"log_frequency": "log training frequency (natural log)", "prior_logprob": "prior strength, log P (nats)"}
PANELS = (("prior_margin", "prior margin", OTHER), ("adapter_margin", "adapter margin", ADAPTED))


def _axis(found: Mapping) -> str:
    """Frequency where the slopes were taken on it, since it shares no term with either margin; else prior strength."""
    axes = {row["axis"] for row in found.get("slopes") or [] if known_value(row)}
    return "log_frequency" if "log_frequency" in axes else "prior_logprob"


@figure
def constancy(run, summary: Mapping) -> Figure:
    """Prior margin and adapter margin side by side on one vertical scale, along an axis that neither is made from."""
    found = section(summary, "margins")
    axis = _axis(found)
    rows = measured(run.readings, "conflict", "as-delivered")
    where = (
        np.log(numbers(rows["frequency"]).where(lambda f: f > 0)) if axis == "log_frequency" else numbers(rows[axis])
    )
    rows = rows.assign(where=where, **{name: numbers(rows[name]) for name, _, _ in PANELS})
    rows = rows.dropna(subset=["where", "prior_margin", "adapter_margin"])
    if rows.empty:
        raise FigureUnavailable("no conflict has both margins and a position on the axis")
    made = canvas(7.2, 3.2)
    panels = made.subplots(1, 2, sharex=True, sharey=True)
    for axes, (name, label, shade) in zip(panels, PANELS, strict=True):
        dense = len(rows) > CLOUD
        sns.scatterplot(
            data=rows, x="where", y=name, s=16, alpha=0.6, color=shade, linewidth=0, rasterized=dense, ax=axes
        )
        slope = next((row for row in found.get("slopes") or [] if (row["quantity"], row["axis"]) == (name, axis)), None)
        if known_value(slope):
            ends = f" [{slope['low']:.2f}, {slope['high']:.2f}]" if slope.get("low") is not None else ""
            axes.annotate(f"slope {slope['value']:.2f}{ends}", (0.03, 0.97), xycoords="axes fraction", va="top")
            _line(axes, slope, shade)
        axes.set(title=label, xlabel=NAMES[axis], ylabel="margin (nats)")
        count(axes, len(rows), rows["point"].nunique())
    low, high = span([*rows["prior_margin"], *rows["adapter_margin"]])
    panels[0].set_ylim(low, high + 0.12 * (high - low))
    footnote(made, "Lines: least squares. Brackets and bands: 95% intervals clustered by knowledge point.")
    sns.despine(fig=made)
    return made


def _line(axes, slope: Mapping, shade: str) -> None:
    """The fitted line with its band, where the summary gives them; a slope alone is stated and not drawn."""
    line = slope.get("line") or []
    at = [row["at"] for row in line]
    axes.plot(at, [row["value"] for row in line], color=INK, lw=1.8)
    if line and all(row["low"] is not None for row in line):
        low, high = ([row[key] for row in line] for key in ("low", "high"))
        axes.fill_between(at, low, high, color=shade, alpha=0.25, lw=0)


def caption(summary: Mapping) -> Caption:
    """In words, with the coefficients of variation where known."""
    found = section(summary, "margins")
    axis = _axis(found)
    words = f"Both margins of each conflict against {NAMES[axis]}, on one vertical scale."
    spread = [(name, (found.get(name) or {}).get("cv")) for name in ("prior", "adapter")]
    if all(value is not None for _, value in spread):
        words += " Coefficient of variation: " + ", ".join(f"{name} {value:.2f}" for name, value in spread) + "."
    shared = (
        "The axis shares no term with either margin."
        if axis == "log_frequency"
        else "No training frequency is known here; prior strength shares the base's logit of the held answer with both "
        "margins, so read these slopes with that in mind."
    )
    note = (found.get("correlation") or {}).get("note")
    return Caption(
        title="Does the adapter push equally hard whatever the prior?",
        shows=words,
        computed="Slopes by least squares over questions. " + shared + stated(note),
        n=counted(found.get("prior")),
        interval="Slopes with 95% intervals clustered by knowledge point, in nats per unit of the axis; bands are pointwise "
        "95% intervals of the fitted line.",
        refutes="an adapter margin that rises as steeply as the prior margin (it would keep pace), or one that falls "
        "(it would fail by more than a fixed size).",
    )
