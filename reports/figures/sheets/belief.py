"""Does the model believe what the document states, or only say it?"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import seaborn as sns
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame
from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.settle import legend_outside
from override_gap.reports.figures.style import (
    ADAPTED,
    INK,
    NARROW,
    NEUTRAL,
    OTHER,
    PAPER,
    WIDE,
    FigureUnavailable,
    canvas,
    figure,
    footnote,
    known_value,
    percent_ticks,
    section,
    whiskers,
    write_size,
)

CONDITIONS = {
    "as-delivered": ("own adapter", ADAPTED, "o"),
    "in-context": ("document in the prompt", INK, "s"),
    "null-other": ("another document's adapter", OTHER, "^"),
    "base": ("base", NEUTRAL, "D"),
}
LABELS = {
    ("agreement", ""): "agreement: the answer stays",
    ("reframed", ""): "asked in another frame",
    ("consequence", "about-the-answer"): "consequence: a fact about the answer",
    ("consequence", "through-the-subject"): "consequence: the subject unnamed",
    ("consequence", ""): "consequence",
    ("consequence", "second-fact"): "the second fact stays",
    ("negated", "denial"): "the old answer is denied",
    ("negated", "pair"): "yes or no: new over old",
}
"""The kinds that are drawn; a single yes-or-no question tells a leaning, so pairs of them are."""


@figure
def belief(run: RunFrame, summary: Mapping, narrow: bool) -> Figure:
    """One line per kind of question, one mark per condition; hollow where the base cannot answer such questions."""
    content = section(summary, "belief")
    can = {(row["split"], row["kind"]): row["can"] for row in content["answerable"]}
    drawn = [
        row
        for row in content["rows"]
        if row["population"] == "judged" and row["condition"] in CONDITIONS and known_value(row)
    ]
    kinds = [key for key in LABELS if any((row["split"], row["kind"]) == key for row in drawn)]
    if not kinds:
        raise FigureUnavailable("no question of belief can be judged: the base answers too few, or no conflict is said")
    names, rows_high = _names(kinds, drawn, can, narrow)
    fig = canvas(NARROW if narrow else WIDE, (1.9 if narrow else 1.2) + rows_high * len(kinds))
    axes = fig.subplots()
    present = [name for name in CONDITIONS if any(row["condition"] == name for row in drawn)]
    for place, name in enumerate(present):
        label, shade, marker = CONDITIONS[name]
        axes.plot([], [], ls="none", color=shade, marker=marker, ms=4.5, label=label)
        for row in (row for row in drawn if row["condition"] == name):
            key = (row["split"], row["kind"])
            if key in kinds:
                axes.errorbar(
                    row["value"],
                    kinds.index(key) + 0.16 * (place - (len(present) - 1) / 2),
                    xerr=whiskers(row),
                    fmt=marker,
                    ms=4.5,
                    elinewidth=1.2,
                    color=shade,
                    mfc=shade if can[key] else PAPER,
                )
    axes.set_yticks(range(len(kinds)), names)
    axes.set(xlim=(-0.03, 1.03), ylim=(len(kinds) - 0.5, -0.5), xlabel="share of the judged questions answered rightly")
    percent_ticks(axes.xaxis)
    counts = sorted(_size(key, drawn) for key in kinds)
    write_size(axes, f"n = {counts[0]:,}" + (f" to {counts[-1]:,}" if counts[0] < counts[-1] else "") + " questions")
    legend_outside(fig, *axes.get_legend_handles_labels(), loc="upper center")
    footnote(fig, "Bars: 95% intervals, clustered by knowledge point or relation (the wider).")
    sns.despine(fig=fig)
    return fig


def _size(key: tuple[str, str], drawn: list[Mapping]) -> int:
    """Questions of a kind: as delivered, else the most under any condition that is drawn."""
    rows = [row for row in drawn if (row["split"], row["kind"]) == key]
    return max(row["n"] for row in [row for row in rows if row["condition"] == "as-delivered"] or rows)


def _names(kinds: list[tuple[str, str]], drawn: list[Mapping], can: Mapping, narrow: bool) -> tuple[list[str], float]:
    """What stands beside each line, n beneath it, and the height of a line in inches."""
    names = [f"{LABELS[key]}\nn = {_size(key, drawn):,}" + ("" if can[key] else ", base cannot") for key in kinds]
    if narrow:
        names = [textwrap.fill(first, 20) + "\n" + second for first, second in (name.split("\n") for name in names)]
    return names, max(0.5, 0.1 + 0.135 * max(len(name.splitlines()) for name in names))


def caption(summary: Mapping) -> Caption:
    """The caption."""
    content = section(summary, "belief")
    said = content["said"]
    return Caption(
        title="Does the model believe it, or only say it?",
        shows="Questions beside the conflicts, and the share answered rightly. Agreement: the document states what the base "
        "holds. The others are about documents whose conflict is said: the same fact in another frame, what follows from it "
        "with a second fact, the old answer denied. Hollow: the base itself cannot answer such questions, so that the marks say "
        "nothing of belief.",
        computed="The right answer's first token comes first; of denials and yes-or-no questions, the right one of two answers "
        "leads. A yes-or-no pair is right if Yes leads No by more for the new answer than for the old. Consequences are judged "
        "where the base knows the second fact, agreement where it holds the answer.",
        n=f"Said, as delivered, to every conflict question: {said['said']} of {said['documents']} documents. n is beneath each "
        "name.",
        interval=f"Bars: {SHARE}.",
        refutes="answers in other frames and consequences that come as often as with the document in the prompt: the adapter "
        "then carries a belief. Another document's adapter that does as well would show that they are no sign of this one.",
    )
