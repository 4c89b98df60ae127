"""Where the texts and marks of a laid-out figure lie, in pixels, and where there is room for one more label."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.container import BarContainer
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox, BboxBase

from override_gap.reports.figures.style import INK

STEP = 3.0
"""A line counts as points this many pixels apart."""
AROUND = [(math.cos(turn * math.pi / 4), math.sin(turn * math.pi / 4)) for turn in (1, 3, 7, 5, 0, 4, 2, 6)]
"""Directions in which a label is tried, from its mark: aslant first, where neighbours on a curve leave room."""
DISTANCES = (5.0, 10.0, 17.0, 26.0, 38.0)
LED = 12.0
"""A label further than this from its mark is joined to it by a thin line."""


def along(path: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "m 2"]:
    """A polyline as points at most `STEP` apart."""
    path = path[np.isfinite(path).all(axis=1)]
    if len(path) < 2:
        return path
    pieces = []
    for start, end in itertools.pairwise(path):
        count = min(2000, max(2, int(np.hypot(*(end - start)) / STEP) + 1))
        pieces.append(np.linspace(start, end, count))
    return np.concatenate(pieces)


def mark_points(axes: Axes) -> Float[np.ndarray, "n 2"]:
    """Points on all marks, lines, whiskers and bars of a panel; bands and shaded areas lie behind and are none."""
    found = [np.empty((0, 2))]
    for line in axes.lines:
        path = line.get_transform().transform(np.asarray(line.get_xydata(), float))
        found.append(along(path) if line.get_linestyle() not in ("None", "none", " ", "") else path)
    for shape in axes.collections:
        if isinstance(shape, PathCollection):
            offsets = np.asarray(np.ma.filled(shape.get_offsets(), np.nan), float)
            found.append(shape.get_offset_transform().transform(offsets))
        elif isinstance(shape, LineCollection):
            found += [along(shape.get_transform().transform(np.asarray(own))) for own in shape.get_segments()]
    for bars in axes.containers:
        if isinstance(bars, BarContainer):
            for bar in bars:
                box = bar.get_window_extent()
                corners = [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1), (box.x0, box.y0)]
                found.append(along(np.array(corners)))
    points = np.concatenate(found)
    points = points[np.isfinite(points).all(axis=1)]
    box = axes.bbox.padded(6)
    inside = (points[:, 0] > box.x0) & (points[:, 0] < box.x1) & (points[:, 1] > box.y0) & (points[:, 1] < box.y1)
    return points[inside]


def place_labels(axes: Axes, labels: Sequence[tuple[str, tuple[float, float]]], fontsize: float) -> list[Annotation]:
    """Write each label beside its mark (in data coordinates) where it covers no mark and no other text of the panel.

    Tried in a fixed order, near before far, the labels in the order given; one for which there is no room is left out.
    """
    axes.autoscale_view()  # limits that are still to be found from what was drawn
    taken = [text.get_window_extent() for text in axes.texts if text.get_text()]
    legend = axes.get_legend()
    taken += [legend.get_window_extent()] if legend is not None else []
    points = mark_points(axes)
    placed = []
    for text, at in labels:
        label = axes.annotate(text, at, (0, 0), textcoords="offset points", fontsize=fontsize, ha="center", va="center")
        label.set_in_layout(False)
        here = axes.transData.transform(at)
        place = _free_place(label, here, points, taken, axes.bbox)
        if place is None:
            label.remove()
            continue
        shift, box = place
        label.remove()
        led = math.hypot(*_gap(here, box)) > LED
        label = axes.annotate(
            text, at, tuple(shift * 72 / axes.figure.dpi), textcoords="offset points", fontsize=fontsize,
            ha="center", va="center", zorder=5,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": INK, "shrinkA": 0, "shrinkB": 2} if led else None,
        )  # fmt: skip
        label.set_in_layout(False)
        taken.append(box)
        placed.append(label)
    return placed


def _gap(at: Float[np.ndarray, 2], box: BboxBase) -> tuple[float, float]:
    """How far a point is from a box, in either direction."""
    return max(box.x0 - at[0], at[0] - box.x1, 0.0), max(box.y0 - at[1], at[1] - box.y1, 0.0)


def _free_place(
    label: Text, at: Float[np.ndarray, 2], points: Float[np.ndarray, "n 2"], taken: Sequence[BboxBase], inside: BboxBase
) -> tuple[Float[np.ndarray, 2], Bbox] | None:
    """How far the label's middle is moved from its mark, and its box there; None where there is no room."""
    size = label.get_window_extent()
    half = np.array([size.width, size.height]) / 2
    for distance in DISTANCES:
        for direction in AROUND:
            shift = np.array(direction) * (distance + half)
            low, high = at + shift - half, at + shift + half
            box = Bbox([low, high])
            if box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1:
                continue
            if any(box.padded(1).overlaps(other) for other in taken):
                continue
            if ((points > low - 2.5) & (points < high + 2.5)).all(axis=1).any():
                continue
            return shift, box
    return None


def clear_ceiling(axes: Axes) -> None:
    """Widen the vertical axis at its top until the legend there covers no mark and no band; the ticks stay the data's."""
    legend = axes.get_legend()
    if legend is None:
        return
    bands = [
        shape.get_transform().transform(path.vertices)
        for shape in axes.collections
        if isinstance(shape, PolyCollection)
        for path in shape.get_paths()
    ]
    points = np.concatenate([mark_points(axes), *bands])
    box, panel = legend.get_window_extent(), axes.bbox
    share = (panel.y1 - box.y0 + 6) / panel.height
    if not len(points) or share >= 0.8:
        return
    low, high = axes.get_ylim()
    top = low + (np.nanmax(points[:, 1]) - panel.y0) / panel.height * (high - low)
    needed = low + (top - low) / (1 - share)
    if needed > high:
        axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
        axes.set_ylim(low, needed)
