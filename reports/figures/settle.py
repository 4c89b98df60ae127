"""Words that fit: footnotes, legends, titles, axis names and ticks broken or thinned to the room that a figure has."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator
from matplotlib.transforms import ScaledTranslation

SIZE, BELOW = "sample size", "below the axis"
"""Labels by which a panel's sample size and its legend are found among its parts; they are not drawn."""


def settle(fig: Figure) -> None:
    """Lay a figure out for good: words are broken and ticks thinned where they would run into each other."""
    engine = fig.get_layout_engine()
    if engine is None or isinstance(engine, PlaceHolderLayoutEngine):
        return
    engine.execute(fig)
    for axes in fig.axes:
        _keep_ticks(axes)
    # At most three looks, since broken names change the room that is left.
    for _ in range(3):
        if not sum(map(_fit_panel, fig.axes)):
            break
        engine.execute(fig)
    fig.set_layout_engine("none")


def text_width(fig: Figure, text: str, fontsize: Any, weight: str = "normal") -> float:
    """Width in pixels of the widest line of a text."""
    family = (*rcParams["font.family"], *rcParams["font.sans-serif"])
    size = _points(fontsize)
    return max(_line_width(line, family, size, weight, fig.dpi) for line in text.splitlines() or [""])


@functools.lru_cache(maxsize=10_000)
def _line_width(line: str, _family: tuple[str, ...], size: float, weight: str, dpi: float) -> float:
    """Width of one line in pixels; matplotlib forgets what it has measured with each figure, and the same words come again."""
    font = FontProperties(family=rcParams["font.family"], size=size, weight=weight)
    return _pen(dpi).get_text_width_height_descent(line, font, ismath=False)[0]


@functools.lru_cache(maxsize=8)
def _pen(dpi: float) -> RendererAgg:
    return RendererAgg(1, 1, dpi)


def _points(size: Any) -> float:
    return FontProperties(size=size).get_size_in_points()


def broken(fig: Figure, text: str, fontsize: Any, room: float, weight: str = "normal") -> str:
    """The text on as many lines as it needs to be no wider than `room` pixels; a longer word stands alone."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if line and text_width(fig, longer, fontsize, weight) > room:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return "\n".join(lines)


def _columns(fig: Figure, labels: Sequence[str], fontsize: Any, room: float, most: int) -> int:
    """The largest number of columns, at most `most`, at which a legend of these labels is no wider than `room`."""
    em = _points(fontsize) * fig.dpi / 72
    widths = [text_width(fig, label, fontsize) + 3.0 * em for label in labels]  # the handle and its distance
    for columns in range(min(most, len(labels)), 1, -1):
        lines, longer = divmod(len(labels), columns)
        starts = [0]
        for column in range(columns):
            starts.append(starts[-1] + lines + (column < longer))
        total = sum(max(widths[a:b]) for a, b in itertools.pairwise(starts)) + 1.2 * em * columns
        if total <= room:
            return columns
    return 1


def legend_outside(fig: Figure, handles: Sequence, labels: Sequence[str], *, loc: str, most: int = 4) -> Legend:
    """A figure's legend above or below its panels, in as many columns as fit; a third line and more make the figure higher."""
    room, fontsize = 0.97 * fig.bbox.width, rcParams["legend.fontsize"]
    em = _points(fontsize) * fig.dpi / 72
    labels = [broken(fig, label, fontsize, room - 4 * em) for label in labels]
    columns = _columns(fig, labels, fontsize, room, most)
    lines = -(-len(labels) // columns)
    fig.set_figheight(fig.get_figheight() + max(0, lines - 2) * 1.5 * em / fig.dpi)
    place: Any = f"outside {loc}"
    return fig.legend(handles, labels, loc=place, ncols=columns, frameon=False, columnspacing=1.2)


def legend_below(axes: Axes, room: float, most: int = 2, **more: Any) -> Legend:
    """A panel's legend below the name of its horizontal axis; `room` is the panel's width in inches, names included."""
    fig = axes.figure
    assert isinstance(fig, Figure)
    handles, labels = axes.get_legend_handles_labels()
    fontsize = rcParams["legend.fontsize"]
    width = room * fig.dpi
    em = _points(fontsize) * fig.dpi / 72
    labels = [broken(fig, label, fontsize, width - 4 * em) for label in labels]
    columns = _columns(fig, labels, fontsize, width, most)
    legend = axes.legend(
        handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns, frameon=False, columnspacing=1.2,
        borderaxespad=0, **more,
    )  # fmt: skip
    legend.set_label(BELOW)
    return legend


def _keep_ticks(axes: Axes) -> None:
    """Hold the ticks of a panel, which would change with its size, and with their labels the room that it takes."""
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_locator(), MaxNLocator):
            low, high = sorted(axis.get_view_interval())
            # not set_ticks, which makes each of them at once, with its line and its labels
            axis.set_major_locator(FixedLocator([place for place in axis.get_majorticklocs() if low <= place <= high]))


def _fit_panel(axes: Axes) -> bool:
    """Break a panel's title and axis names and thin its ticks to its size; whether anything was changed."""
    box = axes.bbox
    changed = [
        _break_label(axes, axes.xaxis.label, box.width * 1.04),
        _break_label(axes, axes.yaxis.label, box.height * 1.04),
        _fit_title(axes),
        _thin(axes),
        _lower_legend(axes),
    ]
    return any(changed)


def _lower_legend(axes: Axes) -> bool:
    """Put the legend of `legend_below` right beneath the axis with its name."""
    legend, fig = axes.get_legend(), axes.figure
    if legend is None or legend.get_label() != BELOW:
        return False
    axis = axes.xaxis.get_tightbbox()
    depth = (axes.bbox.y0 - axis.y0 if axis is not None else 0.0) + 3
    if abs(depth - getattr(legend, "depth_px", -1)) < 0.5:
        return False
    legend.depth_px = depth  # type: ignore[attr-defined]
    shift = ScaledTranslation(0, -depth / fig.dpi, fig.dpi_scale_trans)  # type: ignore[union-attr]
    legend.set_bbox_to_anchor((0.5, 0), axes.transAxes + shift)
    return True


def _break_label(axes: Axes, label: Text, room: float) -> bool:
    fig = axes.figure
    assert isinstance(fig, Figure)
    text = label.get_text()
    if not text or text_width(fig, text, label.get_fontsize()) <= room:
        return False
    label.set_text(broken(fig, " ".join(text.split("\n")), label.get_fontsize(), room))
    return label.get_text() != text


def _fit_title(axes: Axes) -> bool:
    """Break a panel's title where it is too wide, and put the sample size beneath it where the two do not fit on one line."""
    fig = axes.figure
    assert isinstance(fig, Figure)
    title, bold, room = axes.get_title(loc="left"), rcParams["axes.titlesize"], axes.bbox.width
    size = next((text for text in axes.get_children() if isinstance(text, Text) and text.get_label() == SIZE), None)
    if size is None or not size.get_text():
        fitted = broken(fig, title, bold, room, "bold")
        if fitted != title:
            next(text for text in axes.get_children() if isinstance(text, Text) and text.get_text() == title).set_text(
                fitted
            )
        return fitted != title
    if size.get_horizontalalignment() == "left":
        return False
    words, small = size.get_text(), size.get_fontsize()
    if not title:
        size.set_text(broken(fig, words, small, room))
        return size.get_text() != words
    if text_width(fig, title, bold, "bold") + text_width(fig, words, small) + 8 <= room:
        return False
    one_line = " ".join(words.split("\n"))
    words = one_line if text_width(fig, one_line, small) <= room else broken(fig, words, small, room)
    size.set(text=words, ha="left", x=0.0)
    # as many lines higher as the size takes
    axes.set_title(broken(fig, title, bold, room, "bold") + "\n" * len(words.splitlines()), loc="left")
    return True


def _thin(axes: Axes) -> bool:
    """Leave out labels of the horizontal axis, every second or more, until none touches the next."""
    fig, axis = axes.figure, axes.xaxis
    assert isinstance(fig, Figure)
    low, high = sorted(axis.get_view_interval())
    places = axis.get_majorticklocs()
    labels = axis.get_major_formatter().format_ticks(list(places))
    shown = [(place, label) for place, label in zip(places, labels, strict=True) if low <= place <= high and label]
    size = axis.get_major_ticks(1)[0].label1.get_fontsize() if shown else 0
    ends = []
    for place, label in shown:
        middle, half = axes.transData.transform((place, 0))[0], text_width(fig, label, size) / 2
        ends.append((middle - half, middle + half))
    step = next((step for step in range(1, len(shown) + 1) if _apart(ends[::step])), 1)
    if step == 1:
        return False
    kept = shown[::step]
    fixed = isinstance(axis.get_major_formatter(), FixedFormatter)
    axis.set_ticks([place for place, _ in kept], [label for _, label in kept] if fixed else None)
    return True


def _apart(ends: Sequence[tuple[float, float]]) -> bool:
    """Whether labels in a row, given by their ends, leave three pixels between each other."""
    return all(left[1] + 3 <= right[0] for left, right in itertools.pairwise(sorted(ends)))
