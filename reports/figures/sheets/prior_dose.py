"""Does raising the prior alone make conflicts fail?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.caption import Caption, size_sentence
from override_gap.reports.figures.settle import legend_outside
from override_gap.reports.figures.style import (
    ADAPTED,
    BASE,
    GRID,
    INK,
    NARROW,
    NO,
    OTHER,
    WIDE,
    canvas,
    figure,
    footnote,
    known_value,
    percent_ticks,
    section,
    size_text,
    whiskers,
    write_size,
)

ARMS = {
    "own": ("own belief", ADAPTED, "o", 0.0),
    "placebo": ("another fact (placebo)", BASE, "s", 0.18),
    "other-layers": ("own belief, other layers", OTHER, "^", -0.18),
}
"""Label, colour, marker, and how far beside its dose each update is drawn, so that no whisker hides another."""
DELIVERED = "as-delivered"
ITEMS = {
    "all": "all items",
    "lowest third": "third of lowest net margin",
    "middle third": "middle third",
    "highest third": "third of highest net margin",
}


@figure
def prior_dose(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """Net margin against dose, success against dose beside its prediction, and the slopes with those of an audit."""
    found = section(summary, "prior_dose")
    entries = [entry for entry in _forest(found) if known_value(entry[1])]
    below = 1.0 + 0.2 * len(entries)
    # too few knowledge points for any slope: two panels
    layout: list = [["margins"], ["success"]] if narrow else [["margins", "success"]]
    heights = [2.9 if narrow else 3.4] * len(layout)
    if entries:
        layout, heights = [*layout, ["slopes"] * len(layout[0])], [*heights, below]
    fig = canvas(NARROW if narrow else WIDE, sum(heights) + 0.6)
    margins, success, *slopes = fig.subplot_mosaic(layout, height_ratios=heights).values()
    _margins(margins, found)
    _success(success, found)
    sizes = sorted({row["dose"] for row in _rows(found, "own")})
    for axes in (margins, success):  # the doses asked for, whichever of them were reached
        axes.set(xticks=sizes, xlim=(sizes[0] - 0.8, sizes[-1] + 0.8))
    for axes in slopes:
        _slopes(axes, entries, found["bound"])
    handles, labels = margins.get_legend_handles_labels()
    legend_outside(fig, handles, labels, loc="upper center")
    footnote(fig, "Whiskers: 95% intervals, clustered by knowledge point or relation (the wider).")
    sns.despine(fig=fig)
    return fig


def _rows(found: Mapping, arm: str) -> list[Mapping]:
    return [row for row in found["doses"] if row["condition"] == DELIVERED and row["arm"] == arm]


def _without_a_dose(found: Mapping) -> Mapping | None:
    """The items at dose 0, which are all of the experiment's; each dose has those of them that reached it."""
    return next((row["net_change"] for row in _rows(found, "own") if row["dose"] == 0), None)


def _points(axes: Axes, rows: list[Mapping], key: str, arm: str) -> None:
    label, shade, marker, beside = ARMS[arm]
    rows = [row for row in rows if known_value(row[key])]
    doses = [row["dose"] + beside * (row["dose"] != 0) for row in rows]
    axes.plot(doses, [row[key]["value"] for row in rows], color=shade, lw=1, alpha=0.6)
    for n, (dose, row) in enumerate(zip(doses, rows, strict=True)):
        axes.errorbar(
            dose, row[key]["value"], yerr=whiskers(row[key]), fmt=marker, ms=4.5, color=shade, capsize=2, lw=1.2,
            label=label if n == 0 else None,
        )  # fmt: skip


def _margins(axes: Axes, found: Mapping) -> None:
    doses = [row["dose"] for row in _rows(found, "own")]
    axes.plot(doses, [-dose for dose in doses], color=INK, ls="--", lw=1, label="constant adapter margin")
    axes.axhline(0, color=INK, ls=":", lw=1, label="a level, whatever the prior")
    for arm in ARMS:
        _points(axes, _rows(found, arm), "net_change", arm)
    axes.set(title="net margin", xlabel="dose: added to the prior (nats)", ylabel="change of the net margin (nats)")
    if whole := _without_a_dose(found):
        write_size(axes, size_text(whole["n"], whole["points"]))


def _success(axes: Axes, found: Mapping) -> None:
    own = [row for row in _rows(found, "own") if known_value(row["predicted"])]
    axes.plot(
        [row["dose"] for row in own], [row["predicted"]["value"] for row in own], color=INK, ls="--", lw=1, marker="_"
    )
    for row in _rows(found, "own"):
        if row["reached"] < row["asked"]:
            axes.plot(
                [row["dose"]] * 2, [row["success_least"], row["success_most"]], color=NO, lw=3, alpha=0.25, zorder=0
            )
    for arm in ("own", "placebo"):
        _points(axes, _rows(found, arm), "success", arm)
    axes.set(
        title="success", xlabel="dose: added to the prior (nats)", ylabel="document's answer first", ylim=(-0.03, 1.03)
    )
    percent_ticks(axes.yaxis)


def _forest(found: Mapping) -> Iterator[tuple[str, Mapping, str]]:
    """Label, estimate and colour of each slope that is drawn, from top to bottom."""
    read = found["read"]
    for row in found["pass_through"]:
        if (row["condition"], row["update"], row["doses"]) == (DELIVERED, read, "all"):
            yield ITEMS[row["items"]], row, ADAPTED
    for row in found["pass_through"]:
        if (row["condition"], row["update"], row["items"]) == (DELIVERED, read, "all") and row["doses"] != "all":
            yield f"{row['doses']} doses", row, ADAPTED
    for row in found["pass_through"]:
        if row["doses"] != "all" or row["items"] != "all":
            continue
        if row["condition"] != DELIVERED and row["update"] == read:
            yield row["condition"], row, BASE
        if row["condition"] == DELIVERED and row["update"] in ("other-layers", "own, final norm held"):
            yield row["update"].replace("own, ", "").replace("other-layers", "update at other layers"), row, OTHER
    for row in found["observed"]:
        if row["what"] != "causal less observed":
            yield f"observed: {row['what'].split(',')[0]}", row, NO


def _slopes(axes: Axes, rows: list[tuple[str, Mapping, str]], bound: float) -> None:
    axes.axvspan(1 - bound, 1 + bound, color=GRID, alpha=0.5, lw=0)
    axes.axvline(1, color=INK, ls="--", lw=1)
    axes.axvline(0, color=INK, ls=":", lw=1)
    for y, (_, row, shade) in enumerate(rows):
        axes.errorbar(row["value"], y, xerr=whiskers(row), fmt="o", ms=4.5, color=shade, capsize=2, lw=1.2)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=7)
    axes.set(title="pass-through", xlabel="adapted nats per nat added", ylim=(len(rows) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)


def caption(summary: Mapping) -> Caption:
    """The caption."""
    found = section(summary, "prior_dose")
    chosen = found["selection"]
    return Caption(
        title="Does raising the prior alone make conflicts fail?",
        shows="Each conflict is read again after a small update of the base has raised or lowered its prior margin by a dose, in "
        "another wording than the question's where there is one (column `wording`); the document's "
        "adapter acts unchanged on top. Net margin: its change. Success: the share whose first token is the document's. "
        f"Pass-through, with enough knowledge points: slopes. {found['sentence']}",
        computed="Dashed: what a constant adapter margin predicts; dotted: an adapter that sets a level. The placebo is the "
        f"update of another fact at the gain that it has there for the dose. Slopes: {found['read']}, least squares with a "
        "constant per item. Slopes observed over items change nothing: they compare items whose priors differ.",
        n=size_sentence(_without_a_dose(found), "conflicts")
        + f" {chosen['reached']} of {chosen['asked']} doses were reached; pale red bars: where success lies whatever the "
        "others would have shown.",
        interval="95% intervals from the variance clustered by knowledge point or relation (the wider); shaded: slopes that "
        "count as a constant adapter margin.",
        refutes="for the account that strong priors win because the adapter margin is constant: points off the dashed lines, "
        "above all a placebo that lowers the net margin as much as the own update, or slopes outside the shaded band.",
    )
