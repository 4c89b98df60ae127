"""In no figure does a text lie on another or leave it, a legend cover a mark or a panel stand empty, wide or narrow."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from override_gap.reports import figures
from override_gap.reports.figures import style
from override_gap.reports.figures.boxes import clear_ceiling, place_labels
from tests.reports import odd_runs
from tests.reports.ink import faults


@pytest.mark.parametrize("name", odd_runs.NAMES)
def test_nothing_lies_on_anything_else(name):
    found, count = [], 0
    for spec in figures.FIGURES:
        for narrow in (False, True):
            drawing = odd_runs.drawn(name, spec.name, narrow)
            if drawing is None:
                continue
            count += 1
            found += [f"{spec.name}, {'narrow' if narrow else 'wide'}: {fault}" for fault in faults(drawing[0])]
    assert found == []
    assert count >= 12


def test_the_narrow_form_is_as_wide_as_a_page_of_400_pixels_and_its_letters_are_as_large():
    for spec in figures.FIGURES:
        wide, narrow = (odd_runs.drawn("made up", spec.name, form)[0] for form in (False, True))
        assert narrow.get_figwidth() == style.NARROW < wide.get_figwidth(), spec.name
        names = [{axes.xaxis.label.get_fontsize() for axes in own.axes} for own in (wide, narrow)]
        assert names[0] == names[1], spec.name


def bare(**settings):
    """An empty figure of one panel in the house style."""
    with matplotlib.rc_context(style.RC | settings):
        fig = Figure(figsize=(4, 3))
        style.FigureCanvasAgg(fig)
        return fig, fig.add_axes((0.15, 0.15, 0.8, 0.75))


def test_the_measure_finds_each_kind_of_fault():
    fig, axes = bare()
    axes.plot([0, 1, 2], [0, 1, 2], "o-", label="rising")
    assert faults(fig) == []
    axes.legend(loc="center")
    assert faults(fig) == ["legend ['rising'] covers a line", "legend ['rising'] covers a marker"]
    axes.get_legend().remove()
    axes.text(0.5, 1.6, "first"), axes.text(0.52, 1.62, "second")
    assert faults(fig) == ["text 'first' overlaps 'second'"]
    axes.texts[-1].set_position((1.95, 0.5))
    axes.texts[-1].set_text("a long name that runs out")
    assert faults(fig) == ["text 'a long name that runs out' leaves the figure"]
    axes.texts[-1].remove()
    axes.texts[-1].set_position((0.9, 0.98))
    assert "text 'first' covers a line" in faults(fig)
    axes.texts[-1].remove()
    fig.add_axes((0.9, 0.9, 0.05, 0.05), title="nothing").axis("off")
    assert "an empty panel ''" in faults(fig) or "an empty panel 'nothing'" in faults(fig)


def test_labels_find_room_the_same_every_time_and_are_left_out_where_there_is_none():
    places = []
    for _ in range(2):
        fig, axes = bare()
        axes.plot([-5, 0, 0.4, 0.8, 5], [-5, 0, 0.4, 0.8, 5], "o")
        labels = [(f"{at:.2f}", (at, at)) for at in (0.0, 0.4, 0.8)]
        placed = place_labels(axes, labels, 8)
        assert [own.get_text() for own in placed] == ["0.00", "0.40", "0.80"]
        assert faults(fig) == []
        places.append([own.xyann for own in placed])
    assert places[0] == places[1]
    fig, axes = bare()
    crowd = np.array([(x, y) for x in np.linspace(0, 1, 60) for y in np.linspace(0, 1, 60)])
    axes.plot(*crowd.T, "o")
    assert place_labels(axes, [("1.00", (0.5, 0.5))], 8) == []
    assert not axes.texts


def test_a_legend_at_the_top_gets_room_above_the_highest_mark():
    fig, axes = bare()
    axes.plot([0, 1, 2], [5, 5, 5], label="level")
    axes.set_ylim(0, 5.2)
    axes.legend(loc="upper center")
    assert faults(fig) == ["legend ['level'] covers a line"]
    clear_ceiling(axes)
    assert faults(fig) == []
    assert max(axes.get_yticks()) <= 5.2
