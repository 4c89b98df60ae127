"""What does each method win, at what price? As delivered and at its best policy within one budget, from a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import matplotlib
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

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
MARKERS = "os^vDP"
BUDGET = (0, (4, 3))
WIDTH, NARROW_WIDTH = 7.6, 3.7
"""Inches, for a window of 44rem and more, and for a narrower one."""
UNMEASURED = (
    "unrelated answers were not measured on the same questions, so that nothing is known of what an override costs; audit every "
    "method with unrelated questions (split retention) too"
)
STEPS = ((8, 0), (8, 9), (8, -9), (-8, 9), (-8, -9), (0, 12), (0, -12), (8, 16), (8, -16), (-8, 16), (-8, -16), (-8, 0))
"""Where a label may stand beside its mark, in points, the first free place; then the same further away."""


def marks(comparison: Mapping) -> list[dict[str, Any]]:
    """What is drawn: one row per mark with method, kind ("delivered", "best" or "named"), label, and both shares."""
    rows = []
    for row in (comparison.get("budget") or {}).get("methods", ()):
        delivered, kept = row.get("conflict_as_delivered"), row.get("retention_as_delivered")
        if delivered and kept:
            rows.append(
                {"method": row["method"], "kind": "delivered", "label": "", "override": delivered, "kept": kept}
            )
        if row["conflict"] and row["retention"]:
            label = f"{plain_label(row['method'], 26)}\n{setting(row['policy'])}"
            best = {"override": row["conflict"], "kept": row["retention"]}
            rows.append({"method": row["method"], "kind": "best", "label": label, **best})
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
            many = name != owner or condition != DELIVERED
            label = setting(condition) if many and owner in drawn else f"{plain_label(owner, 26)}\n{setting(condition)}"
            kind = "named" if condition != DELIVERED else "delivered"
            rows.append({"method": owner, "kind": kind, "label": label, "override": override, "kept": kept})
    return rows


def delivered_and_best(comparison: Mapping, narrow: bool = False) -> Figure:
    """Override against unrelated answers kept: hollow as delivered, filled at the best policy, a line between the two.

    Every mark has its label beside it; where one finds no room, all methods stand in the legend instead.
    """
    rows = marks(comparison)
    if not rows:
        raise FigureUnavailable(UNMEASURED)
    keep = (comparison.get("budget") or {}).get("keep")
    with matplotlib.rc_context(settings()):
        fig, missing = _drawing(rows, keep, narrow, listed=False)
        if missing:
            fig, _ = _drawing(rows, keep, narrow, listed=True)
    return fig


def _drawing(rows: Sequence[Mapping], keep: float | None, narrow: bool, listed: bool) -> tuple[Figure, list[Mapping]]:
    """The figure, and the marks whose labels found no room."""
    names = list(dict.fromkeys(row["method"] for row in rows))
    lines = -(-len(names) // (1 if narrow else 3)) if listed else 0
    fig = canvas(NARROW_WIDTH, 3.5 + 0.34 * lines) if narrow else canvas(WIDTH, 3.1 + 0.34 * lines)
    axes = fig.subplots()
    ends = [share for row in rows for share in (row["kept"]["low"], row["kept"]["value"]) if share is not None]
    left = min([*ends, keep if keep is not None else 1.0])
    space = max(0.02, 0.12 * (1 - left))
    # beyond 100% there is room for the labels of those that keep everything
    right = 1 + (1 - left + space) * (0 if listed else 0.42 if narrow else 0.2) + 0.3 * space
    axes.set(xlim=(left - space, right), ylim=(-0.05, 1.07))
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
    if listed:
        keys = [Line2D([], [], ls="", **_look(number), mew=1.4, ms=6) for number in range(len(names))]
        texts = ["; ".join([plain_label(name, 26), *_settings_of(rows, name)]) for name in names]
        fig.legend(keys, texts, loc="outside lower left", ncols=1 if narrow else 3, frameon=False)
    sns.despine(fig=fig)
    axes.spines["bottom"].set_bounds(left - space, 1)
    if (engine := fig.get_layout_engine()) is not None:
        engine.execute(fig)
    fig.set_layout_engine("none")
    return fig, [] if listed else _label(axes, rows, keep)


def _settings_of(rows: Sequence[Mapping], name: str) -> list[str]:
    return [row["label"].split("\n")[-1] for row in rows if row["method"] == name and row["label"]]


def _look(number: int, filled: bool = True) -> dict[str, Any]:
    shade, marker = SHADES[number % len(SHADES)], MARKERS[number // len(SHADES) % len(MARKERS)]
    return {"marker": marker, "mec": shade, "mfc": shade if filled else PAPER}


def _draw(axes: Axes, rows: Sequence[Mapping], number: int) -> None:
    shade = SHADES[number % len(SHADES)]
    ends = {row["kind"]: (row["kept"]["value"], row["override"]["value"]) for row in rows if row["kind"] != "named"}
    if len(ends) == 2:
        axes.plot(*zip(*ends.values(), strict=True), color=shade, lw=1.2, zorder=2)
    for row in rows:
        look: dict[str, Any] = _look(number, row["kind"] == "best") | (
            {"marker": "d"} if row["kind"] == "named" else {}
        )
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
    if keep is not None:
        keys.append(Line2D([], [], color=INK, lw=0.9, ls=BUDGET, label=f"budget: {100 * keep:g}% kept"))
    fig.legend(
        handles=keys, loc="outside upper left", ncols=2 if narrow else len(keys), frameon=False, columnspacing=1.2
    )


def _label(axes: Axes, rows: Sequence[Mapping], keep: float | None) -> list[Mapping]:
    """Write every label at the first place beside its mark where it covers no mark, whisker, line or label; which found none."""
    fig = axes.figure
    scale = fig.dpi / 72
    taken = [box for row in rows for box in _boxes(axes, row, scale)] + _lines(axes, rows, scale)
    if keep is not None:
        x = axes.transData.transform((keep, 0))[0]
        taken.append(Bbox([[x - scale, 0], [x + scale, axes.figure.bbox.height]]))
    inside = axes.get_window_extent().frozen()
    missing = []
    for row in (own for own in rows if own["label"]):
        at = axes.transData.transform((row["kept"]["value"], row["override"]["value"]))
        for further in (1, 1.7, 2.6, 3.8, 5.5):
            if _placed(axes, row, at, further, taken, inside, scale):
                break
        else:
            missing.append(row)
    return missing


def _placed(axes: Axes, row: Mapping, at: Any, further: float, taken: list[Bbox], inside: Bbox, scale: float) -> bool:
    for x, y in STEPS:
        across, up = x * further, y * further
        text = axes.annotate(
            row["label"], (row["kept"]["value"], row["override"]["value"]), (across, up), textcoords="offset points", fontsize=8,
            ha="left" if x > 0 else "right" if x < 0 else "center", va="center" if x else "bottom" if y > 0 else "top",
            linespacing=1.15, arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.5, "shrinkB": 5} if further > 1 else None,
        )  # fmt: skip
        pen = cast(FigureCanvasAgg, axes.figure.canvas).get_renderer()
        text.update_positions(pen)
        box = Text.get_window_extent(text, pen).padded(1.5 * scale)
        within = box.x0 >= inside.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0 and box.y1 <= inside.y1
        if within and not any(box.overlaps(other) for other in taken):
            taken.append(box)
            return True
        text.remove()
    return False


def _boxes(axes: Axes, row: Mapping, scale: float) -> list[Bbox]:
    """A mark and its whiskers, in pixels."""
    kept, override = row["kept"], row["override"]
    x, y = axes.transData.transform((kept["value"], override["value"]))
    (left,), (right,) = whiskers(kept)
    (below,), (above,) = whiskers(override)
    low = axes.transData.transform((kept["value"] - left, override["value"] - below))
    high = axes.transData.transform((kept["value"] + right, override["value"] + above))
    half, thin = 4.5 * scale, 0.6 * scale
    return [
        Bbox([[x - half, y - half], [x + half, y + half]]),
        Bbox([[low[0], y - thin], [high[0], y + thin]]),
        Bbox([[x - thin, low[1]], [x + thin, high[1]]]),
    ]


def _lines(axes: Axes, rows: Sequence[Mapping], scale: float) -> list[Bbox]:
    """The line of every method as a chain of small boxes."""
    boxes = []
    for name in dict.fromkeys(row["method"] for row in rows):
        ends = {row["kind"]: (row["kept"]["value"], row["override"]["value"]) for row in rows if row["method"] == name}
        if {"delivered", "best"} <= set(ends):
            (x0, y0), (x1, y1) = (axes.transData.transform(ends[kind]) for kind in ("delivered", "best"))
            steps = max(2, int(max(abs(x1 - x0), abs(y1 - y0)) / (4 * scale)))
            places = [(x0 + (x1 - x0) * n / steps, y0 + (y1 - y0) * n / steps) for n in range(steps + 1)]
            boxes += [Bbox([[x - scale, y - scale], [x + scale, y + scale]]) for x, y in places]
    return boxes


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
