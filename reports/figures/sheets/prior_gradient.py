"""Does failure track prior strength?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from override_gap.reports.figures.caption import SHARE, Caption, counted
from override_gap.reports.figures.style import (
    ADAPTED,
    CLOUD,
    INK,
    NO,
    YES,
    FigureUnavailable,
    canvas,
    count,
    figure,
    footnote,
    known_value,
    measured,
    numbers,
    percent,
    section,
    stated,
    true,
    whiskers,
)


@figure
def prior_gradient(run, summary: Mapping) -> Figure:
    """Success by quartile of prior strength, and failure along it with the logistic fit."""
    found = section(summary, "prior_gradient")
    quartiles = [row for row in found["quartiles"] if known_value(row)]
    if not quartiles:
        raise FigureUnavailable("no quartile of prior strength could be filled")
    made = canvas(7.2, 3.3)
    left, right = made.subplots(1, 2, width_ratios=(1, 1.1))
    _steps(left, found, quartiles)
    _along(right, run, found, quartiles)
    footnote(made, "Thick bars, squares' bars and band: 95% intervals clustered by knowledge point.")
    sns.despine(fig=made)
    return made


def _steps(axes, found: Mapping, quartiles: list[Mapping]) -> None:
    for row in quartiles:
        place = row["quartile"]
        if row.get("wilson_low") is not None:
            axes.plot([place + 0.12] * 2, [row["wilson_low"], row["wilson_high"]], color=INK, lw=1, alpha=0.7)
        axes.errorbar(place, row["value"], yerr=whiskers(row), fmt="o", color=YES, ms=6, lw=2.2, capsize=0)
        axes.annotate(
            f"{100 * row['value']:.0f}%",
            (place, min(row["value"], 0.97)),
            (-7, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8,
        )
    axes.plot([row["quartile"] for row in quartiles], [row["value"] for row in quartiles], color=YES, lw=0.8, alpha=0.5)
    axes.plot([], [], color=YES, lw=2.2, label="95%, clustered")
    axes.plot([], [], color=INK, lw=1, alpha=0.7, label="95%, as if independent")
    labels = [f"{row['prior_low']:.2g} to\n{row['prior_high']:.2g}\nn = {row['n']}" for row in quartiles]
    axes.set_xticks([row["quartile"] for row in quartiles], labels)
    axes.set(
        xlim=(0.3, 4.5),
        ylim=(-0.04, 1.04),
        xlabel="quartile of prior strength, log P (nats): weak to strong",
        ylabel=f"override success ({found.get('measure', 'top1')})",
        title="By quartile",
    )
    percent(axes.yaxis)
    count(axes, **_size(found))
    axes.legend(loc=_corner(quartiles))


def _corner(quartiles: list[Mapping]) -> str:
    """The corner with the most room: the legend is as wide as three of the four quartiles, and hides what is under it."""
    low = [row["value"] if row.get("low") is None else row["low"] for row in quartiles]
    high = [row["value"] if row.get("high") is None else row["high"] for row in quartiles]
    room = {
        "lower left": min(low[:3]),
        "lower right": min(low[-3:]),
        "upper left": 1 - max(high[:3]),
        "upper right": 1 - max(high[-3:]),
    }
    return max(room, key=lambda corner: room[corner])


def _size(found: Mapping) -> dict:
    """Questions and clusters in all four quartiles; the regression knows both, the quartiles only the first."""
    logit = found.get("logit") or {}
    return {"n": logit.get("n") or sum(row["n"] for row in found["quartiles"]), "points": logit.get("points")}


def _along(axes, run, found: Mapping, quartiles: list[Mapping]) -> None:
    rows = measured(run.readings, "conflict", found.get("condition", "as-delivered"))
    column = f"success_{found.get('measure', 'top1')}"
    rows = rows[rows[column].notna() & numbers(rows["prior_logprob"]).notna()]
    if found.get("population") == "known":
        rows = rows[true(rows["known"])]
    strength, failed = numbers(rows["prior_logprob"]), ~true(rows[column])
    # Spread the zeros and ones a little; the seed is fixed so that the figure is the same every time.
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
    logit = found.get("logit") or {}
    curve = logit.get("curve") or []
    if curve:
        place = [row["prior_logprob"] for row in curve]
        axes.plot(place, [row["failure"] for row in curve], color=INK, lw=1.6, label="logistic fit")
        if all(row.get("low") is not None for row in curve):
            axes.fill_between(
                place,
                [row["low"] for row in curve],
                [row["high"] for row in curve],
                color=INK,
                alpha=0.14,
                lw=0,
                label="95%, clustered errors",
            )
    for row in quartiles:
        middle = (row["prior_low"] + row["prior_high"]) / 2
        up, down = whiskers(row)
        axes.errorbar(
            middle,
            1 - row["value"],
            yerr=[down, up],
            fmt="s",
            color=ADAPTED,
            ms=4,
            lw=1.4,
        )
    axes.set(
        ylim=(-0.1, 1.1),
        xlabel="prior strength, log P(prior answer) (nats)",
        ylabel="failure (squares: quartiles, 95%)",
        title="Item by item",
    )
    if quartiles[len(quartiles) // 2]["prior_low"] > -0.5:
        # Half of the priors are near certainty (log P near 0) and would stand on one spot of a linear axis.
        axes.set_xscale("symlog", linthresh=0.1)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlim(right=0.01)
    percent(axes.yaxis)
    count(axes, len(rows), rows["point"].nunique())


def caption(summary: Mapping) -> Caption:
    """In words, with the gap and the coefficient where they were computed."""
    found = section(summary, "prior_gradient")
    gap, logit = found.get("gap"), found.get("logit") or {}
    words = "Left: share of conflicts overridden in each quartile of prior strength, with its range in nats."
    if known_value(gap):
        words += f" Weakest minus strongest: {100 * gap['value']:.0f} percentage points."
    fit = "Right: each conflict as overridden (0) or failed (1)"
    if logit.get("coef") is not None:
        kind = "penalised logistic" if logit.get("method") == "penalised" else "logistic"
        fit += f"; {kind} regression gives {logit['coef']:.2f} log-odds of failure per standard deviation"
    return Caption(
        title="Does failure track prior strength?",
        shows=f"{words} {fit}." + stated(logit.get("note")),
        computed=f"Prior strength is the unadapted model's log-probability of its own answer, summed over tokens; "
        f"condition {found.get('condition', 'as-delivered')}, measure {found.get('measure', 'top1')}, "
        f"population: {found.get('population', 'all')}.",
        n=counted(_size(found)),
        interval=f"Thick: {SHARE}. Thin: 95% Wilson intervals as if questions were independent. The regression's "
        "errors are clustered by knowledge point.",
        refutes="level quartiles, or a coefficient whose interval holds zero: failure would then have another cause.",
    )
