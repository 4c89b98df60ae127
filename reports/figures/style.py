"""How every figure is opened, styled and saved."""

from __future__ import annotations

import functools
import gc
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from override_gap.margins.text import plural

if TYPE_CHECKING:
    from override_gap.analyses.readings import RunFrame

#: Three colours that the page replaces by its own variables, so that an inlined figure follows light and dark.
INK, GRID, PAPER = "#1c2330", "#d8dde6", "#fefefe"

#: seaborn's "colorblind" palette (Wong 2011, doi:10.1038/nmeth.1618, adapted), by what each colour stands for here.
#: Its yellow and pink are too faint for a thin line, its purple too near its blue for a red-blind eye; the wine of
#: Tol's muted scheme (2021, SRON/EPS/TN/09-002) stands in there.
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
"""Each figure is written in these, with the same bytes for the same figure: no date, no version."""
CLOUD = 4000
"""A scatter of more points than this is one picture inside its SVG and PDF: a hundred thousand shapes make a page of 60 MB."""
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": "override-gap"},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": "override-gap", "Producer": None},
}
_OF_THE_SESSION = ("backend", "backend_fallback", "interactive", "toolbar", "figure.dpi")


def settings(rc: Mapping[str, Any] | None = None) -> Any:
    """The house style, over it what the user's matplotlibrc or session changed, over that the ``rc`` of the call."""
    own = {
        key: matplotlib.rcParams[key]
        for key in matplotlib.rcParams
        if key not in _OF_THE_SESSION and matplotlib.rcParams[key] != matplotlib.rcParamsDefault[key]
    }
    return RC | own | dict(rc or {})


class FigureUnavailable(ValueError):
    """What a figure needs is not in this run; the message says what, and why where the summary says why."""


def opened(run: RunFrame | str | Path, summary: Mapping | None) -> tuple[RunFrame, Mapping]:
    """The run and its summary, read or computed where only a folder, or no summary, was given."""
    found: Any = run
    if isinstance(run, (str, Path)):
        from override_gap.analyses.readings import load

        found, stored = load(run), Path(run) / "summary.json"
        if summary is None and stored.is_file():
            summary = json.loads(stored.read_text(encoding="utf-8"))
    if summary is None:
        from override_gap.analyses.summary import summarise

        summary = summarise(found)
    return found, summary


def figure(draw: Callable[[Any, Mapping], Figure]) -> Callable[..., Figure]:
    """Let a drawing function take a run or a run folder, an optional summary, and rc settings over the house style."""

    @functools.wraps(draw)
    def open_and_draw(run, summary: Mapping | None = None, *, rc: Mapping[str, Any] | None = None) -> Figure:
        run, summary = opened(run, summary)
        with matplotlib.rc_context(settings(rc)):
            return draw(run, summary)

    return open_and_draw


def canvas(width: float, height: float) -> Figure:
    """An empty figure in inches, free of pyplot's global state."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made: Figure, stem: Path) -> tuple[Path, ...]:
    """Write `stem` as SVG, PNG and PDF, in this order; the same figure gives the same bytes."""
    written = []
    with matplotlib.rc_context(settings()):
        # The layout is in shares of the figure: solved once, and with no engine left no file draws twice.
        made.draw_without_rendering()
        made.set_layout_engine(None)
        for form in FORMS:
            written.append(stem.with_suffix(f".{form}"))
            made.savefig(written[-1], metadata=_METADATA[form])
    return tuple(written)


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside the block Python looks for no garbage: fitting a font to a PDF makes half a million objects and lets them go."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def section(summary: Mapping, name: str) -> Mapping:
    """A section of the summary, or Absent with the summary's own reason."""
    found = summary.get(name)
    if not found:
        reason = (summary.get("notes") or {}).get(name)
        raise FigureUnavailable(reason or f"this run's summary has no section '{name}'")
    return found


def known_value(estimate: Any, key: str = "value") -> TypeGuard[Mapping]:
    """Whether an estimate was given and has a finite value."""
    return bool(estimate) and estimate.get(key) is not None and bool(np.isfinite(estimate[key]))


def whiskers(estimate: Mapping) -> list[list[float]]:
    """Distances of an estimate's interval ends from its value, as errorbar takes them; no end, no whisker."""
    value = estimate["value"]
    low = value if estimate.get("low") is None else estimate["low"]
    high = value if estimate.get("high") is None else estimate["high"]
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def numbers(column: Any) -> Any:
    """A column as floats, whatever nullable type it was stored in."""
    return pd.Series(pd.to_numeric(column, errors="coerce"), index=column.index).astype(float)


def true(column: Any) -> Any:
    """A nullable boolean column as booleans; null counts as not shown to be true."""
    return column.astype("boolean").fillna(False).astype(bool)


def measured(readings: Any, split: str | None = None, condition: str | None = None) -> Any:
    """The rows that were measured, of one split and condition where named."""
    keep = readings["status"] == "ok"
    if split is not None:
        keep &= readings["split"] == split
    if condition is not None:
        keep &= readings["condition"] == condition
    return readings[keep]


def plain(text: object, limit: int = 40) -> str:
    """A user's name as a label: control and bidirectional marks gone, length bounded."""
    shown = re.sub(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "", str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "\u2026"


def colour(condition: str) -> str:
    """A condition's colour: its family's, so that uniform gains share one."""
    return FAMILIES.get(condition) or FAMILIES.get(condition.split("-")[0], INK)


def percent(axis) -> None:
    """Tick labels of a share as per cent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))


def count(axes: Axes, n: int, points: int | None = None) -> None:
    """State n, and the number of knowledge points as clusters, above a panel's right end; long numbers in two lines."""
    clusters = f"in {plural(points, 'cluster')}" if points else ""
    text = (f"n = {n:,}" + ("\n" if n >= 10_000 else " ") + clusters).strip()
    axes.set_title(text, loc="right", fontsize=7, fontweight="normal")


def footnote(made: Figure, text: str) -> None:
    """Name the intervals beneath a figure, small, at its left end."""
    made.supxlabel(text, fontsize=7, x=0.01, ha="left")


def stated(note: str | None) -> str:
    """A note of the summary as a sentence that follows another; nothing where there is none."""
    return f" {note[0].upper()}{note[1:].rstrip('.')}." if note else ""


def span(values: Iterable[float], pad: float = 0.06) -> tuple[float, float]:
    """Limits around finite values with a margin."""
    finite = [value for value in values if value is not None and np.isfinite(value)]
    low, high = min(finite), max(finite)
    room = (high - low or 1.0) * pad
    return low - room, high + room
