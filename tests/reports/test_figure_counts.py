"""Every n that a caption states is that of its panel, and the one that pandas counts in the readings."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.text import Text

from override_gap.reports import figures
from tests.reports import odd_runs


def stated(text):
    """Every n in a text with its knowledge points, None where it names none."""
    pairs = re.findall(r"n = ([\d,]+)([^;.=]*)", text)
    found = []
    for count, rest in pairs:
        points = re.search(r"\bin ([\d,]+) knowledge point", rest)
        found.append((number(count), number(points[1]) if points else None))
    return found


def number(text):
    return int(text.replace(",", "").rstrip(".")) if text.strip(",") else None


def panel_texts(axes):
    """The words of one panel: titles, labels, ticks, notes and legend."""
    return [text.get_text() for text in axes.findobj(Text) if text.get_text().strip()]


def finite(column):
    """A column that may hold nothing as numbers, absent where they are not finite."""
    return np.isfinite(column.astype(float))


def conflicts(run, *columns):
    """Conflicts as delivered that were measured and have these columns."""
    rows = run.readings
    rows = rows[(rows["status"] == "ok") & (rows["split"] == "conflict") & (rows["condition"] == "as-delivered")]
    for column in columns:
        rows = rows[rows[column].notna()]
    return rows


def with_frequency(run):
    rows = conflicts(run, "prior_margin", "adapter_margin")
    known = rows[rows["frequency"].astype(float) > 0]
    return known if len(known) else rows[rows["prior_logprob"].notna()]


COUNTED = {
    "prior_gradient": lambda run: conflicts(run, "success_top1", "prior_logprob"),
    "margins": lambda run: conflicts(run, "prior_margin", "adapter_margin"),
    "constancy": with_frequency,
    "dose_response": lambda run: conflicts(run, "success_top1"),
}
"""What a figure's caption counts, with its knowledge points, by the readings alone."""


@pytest.mark.parametrize("name", odd_runs.SIMULATED)
def test_the_captions_n_is_that_of_its_panels_and_of_the_readings(name):
    run, _ = odd_runs.odd_run(name)
    checked = 0
    for spec in figures.FIGURES:
        if (drawing := odd_runs.drawn(name, spec.name, False)) is None:
            continue
        fig, caption = drawing
        shown = {pair for axes in fig.axes for text in panel_texts(axes) for pair in stated(text)}
        for n, points in stated(caption.n):
            assert n in {own for own, _ in shown}, (spec.name, caption.n, shown)
            beside = {own for count, own in shown if count == n and own is not None}
            assert points is None or not beside or points in beside, (spec.name, caption.n, shown)
            if spec.name in COUNTED:
                rows = COUNTED[spec.name](run)
                assert (n, points) == (len(rows), rows["point"].nunique()), (spec.name, caption.n)
                checked += 1
        if re.search(r"(stated on|each|every) (each )?panel", caption.n):
            for axes in fig.axes:
                assert any("n = " in text for text in panel_texts(axes)), (spec.name, axes.get_title(loc="left"))
    assert checked >= 3


def test_the_narrow_form_states_every_n_of_the_wide_one():
    for name in ("made up", "missing values"):
        for spec in figures.FIGURES:
            if (wide := odd_runs.drawn(name, spec.name, False)) is None:
                continue
            narrow_one = odd_runs.drawn(name, spec.name, True)
            counts = [
                {pair[0] for axes in own[0].axes for text in panel_texts(axes) for pair in stated(text)}
                for own in (wide, narrow_one)
            ]
            assert counts[0] == counts[1] != set(), (name, spec.name)


def test_each_panel_of_layers_counts_the_conflicts_that_it_read():
    run, _ = odd_runs.odd_run("missing values")
    fig, _ = odd_runs.drawn("missing values", "layers", False)
    items = set(conflicts(run)["item"])
    rows = run.layers[run.layers["item"].isin(items) & (run.layers["condition"] == "as-delivered")]
    panels = {axes.get_title(loc="left").strip(): axes.get_title(loc="right") for axes in fig.axes}
    assert panels["Causal"] == f"n = {rows.loc[finite(rows['alone']), 'item'].nunique()}"
    assert panels["Direct effect"] == f"n = {rows.loc[finite(rows['direct']), 'item'].nunique()}"
    assert panels["Causal"] != panels["Direct effect"]


def test_panels_of_outcomes_and_calibration_count_what_pandas_counts():
    for name in odd_runs.SIMULATED:
        run, _ = odd_runs.odd_run(name)
        rows = run.readings[(run.readings["status"] == "ok") & run.readings["success_top1"].notna()]
        fig, _ = odd_runs.drawn(name, "outcomes", False)
        for axes in fig.axes:
            title = axes.get_title(loc="left").replace("\n", " ")
            split = {"unrelated answers kept": "retention"}.get(title, title.split(",")[0])
            own = rows[rows["split"] == split]
            own = own[own["tier"] == title.split(", ")[1]] if "," in title else own
            expected = {(len(part), part["point"].nunique()) for _, part in own.groupby("condition")}
            assert set(stated(" ".join(panel_texts(axes)))) <= expected, (name, title)
        fig, _ = odd_runs.drawn(name, "calibration", False)
        for axes in fig.axes:
            measured = conflicts(run, "net_margin", f"success_{axes.get_title(loc='left')}")
            assert stated(axes.get_title(loc="right")) == [(len(measured), None)], name
