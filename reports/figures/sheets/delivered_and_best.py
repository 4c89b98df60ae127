"""What does each method win, at what price? As delivered and at its best policy within one budget, from a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from override_gap.analyses.one_budget.race import main_measure, setting
from override_gap.analyses.readings import DELIVERED
from override_gap.margins.text import plural
from override_gap.reports.figures.caption import SHARE, Caption
from override_gap.reports.figures.style import (
    ADAPTED,
    BASE,
    GRID,
    INK,
    NO,
    OTHER,
    PAPER,
    SPLITS,
    FigureUnavailable,
    canvas,
    percent_ticks,
    plain_label,
    settings,
    whiskers,
    write_size,
)

SHADES = (ADAPTED, OTHER, SPLITS["retention"], SPLITS["combination"], NO, BASE)
MARKERS, NAMED = "os^vDP", "dXp*h8"
"""Of methods, and of the conditions of one that were named."""
BUDGET = (0, (4, 3))
WIDTH, NARROW_WIDTH = 7.6, 3.7
"""Inches, for a window of 44rem and more, and for a narrower one."""
UNMEASURED = (
    "unrelated answers were not measured on the same questions, so that nothing is known of what an override costs; audit every "
    "method with unrelated questions (split retention) too"
)


def marks(comparison: Mapping) -> list[dict[str, Any]]:
    """What is drawn: one row per mark with method, kind ("delivered", "best" or "named"), setting, and both shares."""
    rows = []
    for row in (comparison.get("budget") or {}).get("methods", ()):
        delivered, kept = row.get("conflict_as_delivered"), row.get("retention_as_delivered")
        if delivered and kept:
            rows.append(
                {"method": row["method"], "kind": "delivered", "setting": "", "override": delivered, "kept": kept}
            )
        if row["conflict"] and row["retention"]:
            best = {"override": row["conflict"], "kept": row["retention"]}
            rows.append({"method": row["method"], "kind": "best", "setting": setting(row["policy"]), **best})
    rows += _named(comparison, [row["method"] for row in rows])
    return rows


def _named(comparison: Mapping, drawn: Sequence[str]) -> list[dict[str, Any]]:
    """Conditions that were named, beside as delivered."""
    where = {"tier": None, "population": "all", "measure": main_measure(comparison)}
    found: dict[tuple[str, str], Mapping] = {
        (row["method"], row["split"]): row
        for row in comparison["outcomes"]
        if all(row[key] == value for key, value in where.items())
    }
    rows = []
    for method in comparison["methods"]:
        name, condition = method["name"], method["condition"]
        override, kept = found.get((name, "conflict")), found.get((name, "retention"))
        owner = name.removesuffix(f", {condition}")
        if condition == DELIVERED and owner in drawn:
            continue
        if override and kept and override["value"] is not None and kept["value"] is not None:
            kind = "named" if condition != DELIVERED else "delivered"
            rows.append(
                {"method": owner, "kind": kind, "setting": setting(condition), "override": override, "kept": kept}
            )
    return rows


def delivered_and_best(comparison: Mapping, narrow: bool = False) -> Figure:
    """Override against unrelated answers kept: hollow as delivered, filled at the best policy, a line between the two.

    Methods stand in a legend by colour and shape, not beside their marks: those of good methods lie on each other.
    """
    rows = marks(comparison)
    if not rows:
        raise FigureUnavailable(UNMEASURED)
    keep = (comparison.get("budget") or {}).get("keep")
    names = list(dict.fromkeys(row["method"] for row in rows))
    listed = _listed(rows, names)
    lines = -(-len(listed) // (1 if narrow else 3))
    with matplotlib.rc_context(settings()):
        fig = canvas(NARROW_WIDTH, 3.5 + 0.34 * lines) if narrow else canvas(WIDTH, 2.5 + 0.34 * lines)
        axes = fig.subplots()
        ends = [share for row in rows for share in (row["kept"]["low"], row["kept"]["value"]) if share is not None]
        left = min([*ends, keep if keep is not None else 1.0])
        space = max(0.02, 0.12 * (1 - left))
        axes.set(xlim=(left - space, 1 + 0.3 * space), ylim=(-0.05, 1.07))
        for number, name in enumerate(names):
            _draw(axes, [row for row in rows if row["method"] == name], number)
        if keep is not None:
            axes.axvspan(left - space, keep, color=GRID, alpha=0.35, lw=0, zorder=0)
            axes.axvline(keep, color=INK, lw=0.9, ls=BUDGET, zorder=1)
        axes.set(xlabel="unrelated answers kept", ylabel="conflicts overridden")
        ticks = MaxNLocator(4 if narrow else 7, steps=[1, 2, 2.5, 5, 10]).tick_values(left - space, 1)
        axes.set_xticks([tick for tick in ticks if left - space <= tick <= 1 + 1e-9])
        percent_ticks(axes.xaxis)
        percent_ticks(axes.yaxis)
        write_size(axes, size(rows, narrow))
        _legend(fig, rows, keep, narrow)
        keys = [Line2D([], [], ls="", **look, mew=1.4, ms=6) for look, _ in listed]
        texts = [text for _, text in listed]
        fig.legend(keys, texts, loc="outside lower left", ncols=1 if narrow else 3, frameon=False)
        sns.despine(fig=fig)
        axes.spines["bottom"].set_bounds(left - space, 1)
        if (engine := fig.get_layout_engine()) is not None:
            engine.execute(fig)
        fig.set_layout_engine("none")
    return fig


def _listed(rows: Sequence[Mapping], names: Sequence[str]) -> list[tuple[dict[str, Any], str]]:
    """The look and words of every method at its best policy, or as delivered, and of every condition that was named."""
    found = []
    for number, name in enumerate(names):
        own = [row for row in rows if row["method"] == name]
        kinds = {row["kind"]: row["setting"] for row in own}
        if {"best", "delivered"} & set(kinds):
            words = [plain_label(name, 26), kinds.get("best", kinds.get("delivered"))]
            found.append((_look(number, filled="best" in kinds), ", ".join(filter(None, words))))
        named = [row["setting"] for row in own if row["kind"] == "named"]
        found += [(_look(number, False, place), f"{plain_label(name, 26)}, {said}") for place, said in enumerate(named)]
    return found


def _look(number: int, filled: bool = True, named: int | None = None) -> dict[str, Any]:
    shade = SHADES[number % len(SHADES)]
    marker = MARKERS[(number + number // len(SHADES)) % len(MARKERS)] if named is None else NAMED[named % len(NAMED)]
    return {"marker": marker, "mec": shade, "mfc": shade if filled else PAPER}


def _draw(axes: Axes, rows: Sequence[Mapping], number: int) -> None:
    shade = SHADES[number % len(SHADES)]
    ends = {row["kind"]: (row["kept"]["value"], row["override"]["value"]) for row in rows if row["kind"] != "named"}
    if len(ends) == 2:
        axes.plot(*zip(*ends.values(), strict=True), color=shade, lw=1.2, zorder=2)
    named = [row for row in rows if row["kind"] == "named"]
    for row in rows:
        look = _look(number, row["kind"] == "best", named.index(row) if row in named else None)
        axes.errorbar(
            row["kept"]["value"], row["override"]["value"], xerr=whiskers(row["kept"]), yerr=whiskers(row["override"]),
            ls="", ms=7, mew=1.4, ecolor=shade, elinewidth=0.7, zorder=4 if row["kind"] == "best" else 3, **look,
        )  # fmt: skip


def _legend(fig: Figure, rows: Sequence[Mapping], keep: float | None, narrow: bool) -> None:
    kinds = [row["kind"] for row in rows]
    told = {
        "delivered": ("o", PAPER, "as delivered"),
        "best": ("o", INK, "best within the budget"),
        "named": ("d", PAPER, "as named"),
    }
    keys = [
        Line2D([], [], ls="", marker=marker, mfc=fill, mec=INK, ms=6, label=label)
        for kind, (marker, fill, label) in told.items()
        if kind in kinds
    ]
    over = "" if narrow else " (grey: over it)"
    if keep is not None:
        keys.append(Line2D([], [], color=INK, lw=0.9, ls=BUDGET, label=f"budget: {100 * keep:g}% kept{over}"))
    fig.legend(
        handles=keys, loc="outside upper left", ncols=2 if narrow else len(keys), frameon=False, columnspacing=1.2
    )


def size(rows: Sequence[Mapping], narrow: bool = False) -> str:
    """'n = 194 conflicts, 131 unrelated questions', over all marks."""
    parts = [f"{_span(rows, 'override')} conflicts", f"{_span(rows, 'kept')} unrelated questions"]
    return f"n = {(',' + chr(10) if narrow else ', ').join(parts)}"


def _span(rows: Sequence[Mapping], key: str) -> str:
    counts = sorted({row[key]["n"] for row in rows})
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def caption(comparison: Mapping) -> Caption:
    """The caption; its n is counted from the marks that are drawn."""
    rows, budget = marks(comparison), comparison.get("budget") or {}
    without = [
        row["method"] for row in budget.get("methods", ()) if row["method"] not in {own["method"] for own in rows}
    ]
    left_out = (
        f" Not drawn, since unrelated answers were not measured: {', '.join(map(plain_label, without))}."
        if without
        else ""
    )
    points = (
        f", in {plural(rows[0]['override']['points'], 'knowledge point')} and {rows[0]['kept']['points']}"
        if rows
        else ""
    )
    return Caption(
        title="What does each method override, and what does it cost?",
        shows="Up: conflicts overridden. Right: unrelated answers kept. Hollow: as delivered; filled: at the method's best "
        "policy within the one budget (dashed line, over it in grey); a line joins the two. The upper right is best."
        f"{left_out}",
        computed="The filled marks are out of fold: every question is read under the policy that was chosen without its fold.",
        n=f"{size(rows)}{points}." if rows else "n = 0.",
        interval=f"Whiskers: {SHARE}.",
        refutes="a filled mark whose method another one passes on the same questions: the paired difference above decides, not "
        "whether whiskers overlap.",
    )
