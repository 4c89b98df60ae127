"""Who wins at which price? Override against price, each method at its best policy within every budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from override_gap.margins.condition_names import BASE
from override_gap.reports.figures.caption import SHARE, Caption, size_sentence
from override_gap.reports.figures.settle import legend_outside, settle
from override_gap.reports.figures.style import (
    NARROW,
    WIDE,
    FigureUnavailable,
    canvas,
    percent_ticks,
    plain_label,
    settings,
    whiskers,
)

MARKERS = "osD^vP*X"


def _price(budget: Mapping) -> str:
    """Which figure is the price: unrelated answers kept, or KL where that alone is bounded."""
    return "kl" if budget["keep"] is None else "retention"


def trade_off(comparison: Mapping, narrow: bool = False) -> Figure:
    """One line per method over the budgets; the budget asked for has a larger mark and the interval of its override."""
    budget = comparison.get("budget")
    if budget is None:
        raise FigureUnavailable("no budget was given (--keep, --kl)")
    price = _price(budget)
    # where only the base is shown to be within a budget, nothing is overridden and nothing paid
    rows = [row for row in budget["range"] if row["conflict"] and row[price] and row["policy"] != BASE]
    if not rows:
        raise FigureUnavailable("no method has a policy within any of the budgets")
    names = list(dict.fromkeys(row["method"] for row in rows))
    with matplotlib.rc_context(settings()):
        fig = canvas(NARROW, 3.8) if narrow else canvas(WIDE, 3.9)
        axes = fig.subplots()
        for number, (name, shade) in enumerate(zip(names, sns.color_palette("deep", len(names)), strict=True)):
            marks: dict[str, Any] = {"color": shade, "marker": MARKERS[number % len(MARKERS)]}
            own = [row for row in rows if row["method"] == name]
            values = [[row[key]["value"] for row in own] for key in (price, "conflict")]
            axes.plot(*values, linewidth=1, ms=3.5, label=plain_label(name, 30), **marks)
            for row in own:
                if (row["budget_keep"], row["budget_kl"]) == (budget["keep"], budget["kl"]):
                    place = row[price]["value"], row["conflict"]["value"]
                    axes.errorbar(*place, yerr=whiskers(row["conflict"]), ms=7, elinewidth=1.1, **marks)
        axes.set(ylim=(-0.04, 1.04), ylabel="conflicts overridden, out of fold")
        percent_ticks(axes.yaxis)
        if price == "retention":
            axes.set(xlabel="unrelated answers kept, out of fold")
            axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        else:
            axes.set(xlabel="KL to the base on unrelated questions, nats per token, out of fold")
        legend_outside(fig, *axes.get_legend_handles_labels(), loc="upper center")
        sns.despine(fig=fig)
        settle(fig)
    return fig


def trade_off_caption(comparison: Mapping) -> Caption:
    """The caption."""
    budget = comparison.get("budget") or {}
    first = next((row["conflict"] for row in budget.get("methods", ()) if row["conflict"]), None)
    return Caption(
        title="Who overrides more at which price?",
        shows="Each method at its best policy within every budget, the price that it really has on the other axis; the large "
        "mark is the budget that was asked for. Budgets within which only the base is shown to be are left out.",
        computed="Policies are chosen by cross-validation; every item is read under the policy chosen without its fold.",
        n=size_sentence(first, "conflicts"),
        interval=f"Bars: {SHARE}.",
        refutes="lines that cross or lie within each other's bars do not rank the methods: the paired differences decide.",
    )
