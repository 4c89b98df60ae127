"""The house style: how every figure is opened, coloured and saved."""

from __future__ import annotations

import functools
import gc
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from override_gap.analyses.readings import RunFrame, load
from override_gap.margins.text import plural
from override_gap.margins.whole_files import write_bytes
from override_gap.probes.store.checksum import checksum_matches
from override_gap.probes.store.folder import Store
from override_gap.reports.figures.pdf_fonts import needed_tables_alone
from override_gap.reports.figures.settle import SIZE, broken, settle

#: Three colours that the page replaces by its own variables, so that an inlined figure follows light and dark mode.
INK, GRID, PAPER = "#1c2330", "#d8dde6", "#fefefe"

#: seaborn's "colorblind" palette (Wong 2011, doi:10.1038/nmeth.1618, adapted), by what each colour stands for here.
#: Its yellow and pink are too faint for a thin line, and its purple is too near its blue for a red-blind eye, where the
#: wine of Tol's muted scheme (2021, SRON/EPS/TN/09-002) replaces it.
_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, _BROWN, _, _GREY, _, _SKY = sns.color_palette("colorblind").as_hex()
_WINE = "#882255"
YES, NO, NEUTRAL = _BLUE, _RED, _GREY
SPLITS = {"conflict": _RED, "novel": _BLUE, "combination": _WINE, "retention": _GREEN}
BASE, ADAPTED, OTHER = _GREY, _BLUE, _ORANGE
FAMILIES = {
    "base": _GREY, "as-delivered": _BLUE, "uniform": _SKY, "slb": _ORANGE, "ca": _GREEN, "ca-slb": _GREEN,
    "random": _BROWN, "bottom": _BROWN, "relevance": _PURPLE, "margin": _RED, "logit": "#8a7a00", "in": INK,
}  # fmt: skip

RC: Any = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper"),
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9, "axes.labelsize": 9, "axes.titlesize": 9, "legend.fontsize": 8,
    "xtick.labelsize": 8, "ytick.labelsize": 8,
    "axes.titlelocation": "left", "axes.titleweight": "bold",
    "axes.titley": 1.0,  # no axes has ticks at its top, which matplotlib else looks for whenever a figure is drawn
    "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.6,
    "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER,
    "legend.facecolor": PAPER, "legend.edgecolor": GRID, "legend.framealpha": 0.85, "patch.edgecolor": PAPER,
    "axes.spines.top": False, "axes.spines.right": False,
    "text.parse_math": False,  # names come from users: a dollar sign is a dollar sign
    # PDF holds the font itself (42: TrueType), so that its text can be searched and set beside a paper's own.
    "svg.fonttype": "path", "svg.hashsalt": "override-gap", "pdf.fonttype": 42, "savefig.dpi": 150,
}  # fmt: skip

FORMS = ("svg", "png", "pdf")
"""Each figure is written in these formats; the same figure gives the same bytes, since no date or version is stored."""
WIDE, NARROW = 7.4, 3.9
"""Widths in inches: on a page or in a paper, and on a page of 400 pixels, with letters of the same size."""
CLOUD = 4000
"""A scatter of more points than this is a bitmap inside its SVG and PDF: a hundred thousand shapes make a page of 60 MB."""
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": "override-gap"},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": "override-gap", "Producer": None},
}
_NOT_STYLE = ("backend", "backend_fallback", "interactive", "toolbar", "figure.dpi")


def settings(rc: Mapping[str, Any] | None = None) -> Any:
    """The house style, overridden by what the user's matplotlibrc or session changed, overridden by ``rc``."""
    changed = {
        key: matplotlib.rcParams[key]
        for key in matplotlib.rcParams
        if key not in _NOT_STYLE and matplotlib.rcParams[key] != matplotlib.rcParamsDefault[key]
    }
    return RC | changed | dict(rc or {})


class FigureUnavailable(ValueError):
    """The run does not hold what the figure needs; the message says what is missing, and why where the summary says so."""


def run_and_summary(run: RunFrame | str | Path, summary: Mapping | None) -> tuple[RunFrame, Mapping]:
    """The run, read where `run` is a folder, and its summary: as given, else as stored in the folder, else computed.

    A stored summary that is not what was written, or was computed from other readings, is not used.
    """
    if isinstance(run, (str, Path)):
        folder = Path(run)
        run = load(folder)
        stored = Store(folder).read_json("summary.json") if summary is None else None
        if stored and stored.get("content") and stored["content"] == run.content and checksum_matches(stored):
            summary = stored
    if summary is None:
        from override_gap.analyses.summary import summarise

        summary = summarise(run)
    return run, summary


def figure(draw: Callable[[RunFrame, Mapping, bool], Figure]) -> Callable[..., Figure]:
    """Decorator: the drawing function takes a run or a run folder, an optional summary, whether for a narrow page, and rc."""

    @functools.wraps(draw)
    def open_and_draw(
        run: RunFrame | str | Path,
        summary: Mapping | None = None,
        *,
        narrow: bool = False,
        rc: Mapping[str, Any] | None = None,
    ) -> Figure:
        frame, results = run_and_summary(run, summary)
        with matplotlib.rc_context(settings(rc)):
            drawn = draw(frame, results, narrow)
            settle(drawn)
        return drawn

    return open_and_draw


def canvas(width: float, height: float) -> Figure:
    """An empty figure in inches, free of pyplot's global state."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def save(fig: Figure, stem: Path) -> tuple[Path, ...]:
    """Write `stem` as SVG, PNG and PDF, in this order; the same figure gives the same bytes."""
    return tuple(write_bytes(stem.with_suffix(f".{form}"), _drawn(fig, form)) for form in FORMS)


def as_svg(fig: Figure) -> str:
    """A figure as the text of an SVG file; the same figure gives the same text."""
    return _drawn(fig, "svg").decode("utf-8")


def _drawn(fig: Figure, form: str) -> bytes:
    with matplotlib.rc_context(settings()), needed_tables_alone():
        settle(fig)  # the layout does not depend on the format: it is solved once, not again for each file
        # drawn in memory: where a disk is full, matplotlib's PDF raises an AttributeError of its own in place of the reason
        drawn, before, dpi, face = io.BytesIO(), fig.canvas, fig.dpi, fig.get_facecolor()
        # By the canvas alone: savefig draws everything once more beforehand, to find a layout that is settled here.
        try:
            fig.dpi = rcParams["savefig.dpi"] if rcParams["savefig.dpi"] != "figure" else dpi
            if rcParams["savefig.facecolor"] != "auto":
                fig.set_facecolor(rcParams["savefig.facecolor"])
            if form == "svg":
                FigureCanvasSVG(fig).print_svg(drawn, metadata=_METADATA[form])
            elif form == "pdf":
                FigureCanvasPdf(fig).print_pdf(drawn, metadata=_METADATA[form])
            else:
                FigureCanvasAgg(fig).print_png(drawn, metadata=_METADATA[form])
        finally:
            fig.set_canvas(before)
            fig.dpi = dpi
            fig.set_facecolor(face)
        return drawn.getvalue()


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Turn Python's garbage collector off in the block: embedding a font in a PDF makes half a million short-lived objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def section(summary: Mapping, name: str) -> Mapping:
    """A section of the summary. Raises FigureUnavailable, with the summary's reason, where it is empty."""
    return _filled(summary, name)


def section_rows(summary: Mapping, name: str) -> list[Mapping]:
    """`section` for a section that is a list of rows."""
    return _filled(summary, name)


def _filled(summary: Mapping, name: str) -> Any:
    results = summary.get(name)
    if not results:
        reason = (summary.get("notes") or {}).get(name)
        raise FigureUnavailable(reason or f"this run's summary has no section '{name}'")
    return results


def known_value(estimate: Any, key: str = "value") -> TypeGuard[Mapping]:
    """Whether there is an estimate and its value is finite."""
    return bool(estimate) and estimate.get(key) is not None and bool(np.isfinite(estimate[key]))


def whiskers(estimate: Mapping) -> list[list[float]]:
    """Distances of an estimate's interval ends from its value, as errorbar takes them; no end, no whisker."""
    value = estimate["value"]
    low = value if estimate.get("low") is None else estimate["low"]
    high = value if estimate.get("high") is None else estimate["high"]
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def as_floats(column: Any) -> Any:
    """A column of any nullable type as floats; what is no number becomes NaN."""
    return pd.Series(pd.to_numeric(column, errors="coerce"), index=column.index).astype(float)


def is_true(column: Any) -> Any:
    """A nullable boolean column as booleans; null counts as false."""
    return column.astype("boolean").fillna(False).astype(bool)


def measured_rows(readings: Any, split: str | None = None, condition: str | None = None) -> Any:
    """Rows with status ok, of one split and one condition where they are named."""
    keep = readings["status"] == "ok"
    if split is not None:
        keep &= readings["split"] == split
    if condition is not None:
        keep &= readings["condition"] == condition
    return readings[keep]


def plain_label(text: object, limit: int = 40) -> str:
    """Untrusted text as a label: control and bidirectional characters removed, at most `limit` characters."""
    label = re.sub(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "", str(text))
    return label if len(label) <= limit else label[: limit - 1] + "\u2026"


def colour(condition: str) -> str:
    """The colour of a condition's family; all uniform gains share one."""
    return FAMILIES.get(condition) or FAMILIES.get(condition.split("-")[0], INK)


def percent_ticks(axis: Axis) -> None:
    """Show the tick labels of a share in per cent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))


def size_text(n: int, points: int | None = None) -> str:
    """'n = 194', and on a second line 'in 72 knowledge points' where their number is known."""
    return f"n = {n:,}" + (f"\nin {plural(points, 'knowledge point')}" if points else "")


def size_range(counts: Iterable[int]) -> str:
    """'n = 194', or 'n = 12 to 194' where the rows of a panel differ in size."""
    sizes = sorted(set(counts))
    return f"n = {sizes[0]:,}" + (f" to {sizes[-1]:,}" if len(sizes) > 1 else "")


def write_size(axes: Axes, text: str) -> None:
    """Write a panel's sample size above its right end; beneath its title where there is no room beside it."""
    axes.set_title(text, loc="right", fontsize=7, fontweight="normal").set_label(SIZE)


def write_panel_title(axes: Axes, title: str, size: str) -> None:
    """A narrow panel's title, with its sample size in small letters beneath."""
    axes.set_title(title, pad=6 + 9 * len(size.splitlines()))
    axes.annotate(size, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=7)


def footnote(fig: Figure, text: str) -> None:
    """Say what the intervals are, in small letters beneath a figure."""
    fig.supxlabel(broken(fig, text, 7, 0.97 * fig.bbox.width), fontsize=7, x=0.01, ha="left")


def note_sentence(note: str | None) -> str:
    """A note of the summary as a sentence to append, with a space before it; empty where there is no note."""
    return f" {note[0].upper()}{note[1:].rstrip('.')}." if note else ""


def padded_limits(values: Iterable[float | None], pad: float = 0.06) -> tuple[float, float]:
    """Axis limits around the finite values; `pad` is the space at each end, as a share of their range."""
    finite = [value for value in values if value is not None and np.isfinite(value)]
    low, high = min(finite), max(finite)
    space = (high - low or 1.0) * pad
    return low - space, high + space
