"""Where the texts, legends and marks of a drawn figure lie, measured by matplotlib's own extents: for tests of overlaps.

It shares no code with reports/figures/boxes.py, which places labels.
"""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.container import BarContainer
from matplotlib.legend import Legend
from matplotlib.text import Text

SLACK = 1.0
"""Boxes of texts hold some white: this many pixels of overlap are none."""


def named(text):
    """A text as a fault names it."""
    return repr(text.get_text()[:40])


def drawn_texts(fig):
    """Every text that is drawn: visible, not empty, and for a tick's label within the limits of its axis."""
    hidden = set()
    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low - 1e-9 <= tick.get_loc() <= high + 1e-9 or not tick.get_visible():
                    hidden |= {tick.label1, tick.label2}
            offset = axis.get_offset_text()
            hidden |= set() if offset.get_text() else {offset}
    legends = {text: legend for legend in fig.findobj(Legend) for text in legend.get_texts()}
    return [
        text
        for text in fig.findobj(Text)
        if text.get_text().strip() and text.get_visible() and text not in hidden
        and (text not in legends or legends[text].get_visible())
    ]  # fmt: skip


def _overlap(a, b):
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width > SLACK and height > SLACK


def lines_of_text(text):
    """A text's box; of one that is several lines long, without the empty lines at its end."""
    whole = Text.get_window_extent(text)  # an annotation's own would hold its line to the mark
    lines = text.get_text().split("\n")
    empty = len(lines) - len(text.get_text().rstrip("\n").split("\n"))
    if empty:
        whole = whole.frozen()
        whole.y0 += whole.height * empty / len(lines)
    return whole


def marks(axes):
    """Pixels of every marker, line, whisker and bar of a panel, each with what it is; areas behind them are no marks."""
    found = []
    for line in axes.lines:
        path = np.asarray(line.get_transform().transform(np.asarray(line.get_xydata(), float)))
        marked = line.get_marker() not in ("None", None, "", " ")
        joined = line.get_linestyle() not in ("None", None, "", " ")
        found += [("marker", point) for point in path if marked]
        found += [("line", point) for point in _dense(path) if joined]
    for shape in axes.collections:
        if isinstance(shape, PathCollection):
            places = shape.get_offset_transform().transform(np.ma.filled(shape.get_offsets(), np.nan))
            found += [("dot", point) for point in places]
        elif isinstance(shape, LineCollection):
            for segment in shape.get_segments():
                found += [("whisker", point) for point in _dense(shape.get_transform().transform(segment))]
    for bars in axes.containers:
        if isinstance(bars, BarContainer):
            for bar in bars:
                box = bar.get_window_extent()
                xs, ys = np.linspace(box.x0, box.x1, 20), np.linspace(box.y0, box.y1, 5)
                found += [("bar", np.array(point)) for point in itertools.product(xs, ys)]
    panel = axes.get_window_extent()
    return [(kind, (x, y)) for kind, (x, y) in found if panel.x0 <= x <= panel.x1 and panel.y0 <= y <= panel.y1]


def _dense(path):
    path = path[np.isfinite(path).all(axis=1)]
    out = list(path)
    for start, end in itertools.pairwise(path):
        steps = min(1000, int(np.abs(end - start).max() // 2) + 1)
        out += [start + (end - start) * k / steps for k in range(steps)]
    return out


def faults(fig):
    """What lies on what in a figure: one line per fault, none where all is well."""
    fig.canvas.draw()
    texts = drawn_texts(fig)
    boxes = [lines_of_text(text) for text in texts]
    found = []
    for (first, a), (second, b) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        if _overlap(a, b):
            found.append(f"text {named(first)} overlaps {named(second)}")
    whole = fig.bbox
    for text, box in zip(texts, boxes, strict=True):
        if box.x0 < -SLACK or box.y0 < -SLACK or box.x1 > whole.x1 + SLACK or box.y1 > whole.y1 + SLACK:
            found.append(f"text {named(text)} leaves the figure")
    legends = [legend for legend in fig.findobj(Legend) if legend.get_visible()]
    extents = [legend.get_window_extent() for legend in legends]
    for one, other in itertools.combinations(extents, 2):
        if _overlap(one, other):
            found.append("two legends overlap")
    own = {text for legend in legends for text in legend.get_texts()}
    for axes in fig.axes:
        if not axes.get_visible():
            continue
        points = marks(axes)
        for legend, box in zip(legends, extents, strict=True):
            held = {kind for kind, (x, y) in points if box.x0 < x < box.x1 and box.y0 < y < box.y1}
            names = [text.get_text() for text in legend.get_texts()]
            found += [f"legend {names} covers a {kind}" for kind in sorted(held)]
        bars_hold = any(isinstance(bars, BarContainer) for bars in axes.containers)
        for text, box in zip(texts, boxes, strict=True):
            if text in own or (bars_hold and text.axes is axes):
                continue  # numbers stand in their bars
            held = {kind for kind, (x, y) in points if box.x0 < x < box.x1 and box.y0 < y < box.y1}
            found += [f"text {named(text)} covers a {kind}" for kind in sorted(held)]
        if not points and not axes.texts:
            found.append(f"an empty panel {axes.get_title(loc='left')!r}")
    return found
