"""Figures show what the summary and the readings say, and state the reason where they cannot."""

from __future__ import annotations

import copy
import itertools
import json
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import fields, replace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from override_gap.reports import figures
from override_gap.reports.figures.style import ADAPTED, BASE, NO, OTHER, PAPER, SPLITS, YES
from tests.reports import synthetic


def lines_of(axes):
    """Every drawn line as (x, y) arrays."""
    return [(np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)) for line in axes.lines]


def dots_of(axes):
    """Every scattered point as one array [n, 2]."""
    found = [np.asarray(own.get_offsets()) for own in axes.collections if type(own).__name__ == "PathCollection"]
    return np.concatenate(found) if found else np.empty((0, 2))


def drawn_points(axes):
    """The set of all line vertices, rounded."""
    return {(round(float(a), 6), round(float(b), 6)) for x, y in lines_of(axes) for a, b in zip(x, y, strict=True)}


@pytest.mark.parametrize("spec", figures.FIGURES, ids=lambda spec: spec.name)
def test_every_figure_is_drawn_with_axis_names_and_a_full_caption(spec, run, summary):
    drawing = spec.draw(run, summary)
    assert isinstance(drawing, Figure)
    text = " ".join(t.get_text() for axes in drawing.axes for t in (*axes.texts, *axes.get_children())
                    if hasattr(t, "get_text"))  # fmt: skip
    assert "n = " in text
    words = spec.caption(summary)
    for field in fields(words):
        assert len(getattr(words, field.name)) > 10, field.name
    assert "interval" in words.interval.lower()


def test_one_item_stands_on_one_scale_with_what_a_constant_adapter_margin_predicts(run, summary):
    by_gain, by_dose, by_layer = figures.one_item(run, summary).axes
    assert {(0.0, -6.0), (1.0, -1.5), (2.0, 3.0)} <= drawn_points(by_gain)
    assert 64.0 not in {x for x, _ in drawn_points(by_gain)}
    # the same adapter: -1.5 - dose; the base alone: -(6 + dose)
    assert {(-4.0, 2.5), (8.0, -9.5), (-4.0, -2.0), (8.0, -14.0), (-4.0, 0.9), (8.0, -6.3)} <= drawn_points(by_dose)
    boxes = [(patch.get_y(), patch.get_y() + patch.get_height()) for patch in by_layer.patches]
    assert boxes == [(-6, -5), (-5, -5.5), (-5.5, -1.5)]
    assert by_gain.get_ylim() == by_dose.get_ylim() == by_layer.get_ylim()
    without = {**summary, "one_item": {**summary["one_item"], "doses": [], "by": "attribution"}}
    with pytest.raises(figures.FigureUnavailable, match="prior-dose or gain-path"):
        figures.one_item(run, without)


def test_prior_dose_says_all_items_and_bounds_a_dose_that_nobody_reached(run, summary):
    changed = copy.deepcopy(summary)
    nothing = {"value": None, "low": None, "high": None, "n": 0, "points": 0}
    found = changed["prior_dose"]
    lowered, _, raised = (row for row in found["doses"] if row["arm"] == "own")
    lowered["net_change"] |= {"n": 7, "points": 5}
    empty = ("moved", "adapter_change", "net_change", "success", "predicted", "excess", "success_margin")
    raised |= {"reached": 0, "success_least": 0.0, "success_most": 1.0, **dict.fromkeys(empty, nothing)}
    margins, success, _ = figures.prior_dose(run, changed).axes
    assert margins.get_title(loc="right").startswith("n = 40")
    assert any(x.tolist() == [8, 8] and y.tolist() == [0, 1] for x, y in lines_of(success))
    spec = next(spec for spec in figures.FIGURES if spec.name == "prior_dose")
    assert spec.caption(changed).n.startswith("n = 40 conflicts")
    assert "another wording than the question's where there is one" in spec.caption(changed).shows


def test_prior_dose_without_slopes_has_two_panels_whose_ticks_keep_apart(run, summary, recwarn):
    changed = copy.deepcopy(summary)
    changed["prior_dose"] |= {"pass_through": [], "observed": []}
    for row in changed["prior_dose"]["doses"]:
        if row["dose"]:
            row |= {"reached": 0, "success": None, "predicted": None, "net_change": None}
    drawing = figures.prior_dose(run, changed)
    drawing.draw_without_rendering()
    assert [str(each.message) for each in recwarn] == []
    assert len(drawing.axes) == 2
    for axes in drawing.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert len(boxes) == 3
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_quartiles_stand_where_the_summary_puts_them_even_if_the_readings_disagree(run, summary):
    changed = copy.deepcopy(summary)
    for number, row in enumerate(changed["prior_gradient"]["quartiles"]):
        row.update(value=0.11 * (number + 1), low=0.11 * (number + 1) - 0.05, high=0.11 * (number + 1) + 0.07)
    points = drawn_points(figures.prior_gradient(run, changed).axes[0])
    assert {(1.0, 0.11), (2.0, 0.22), (3.0, 0.33), (4.0, 0.44)} <= points


def test_the_fitted_curve_is_the_summarys_and_is_absent_without_one(run, summary):
    changed = copy.deepcopy(summary)
    changed["prior_gradient"]["logit"]["curve"] = [
        {"prior_logprob": -3.0, "failure": 0.125, "low": 0.1, "high": 0.2},
        {"prior_logprob": -0.5, "failure": 0.875, "low": 0.7, "high": 0.9},
    ]
    assert {(-3.0, 0.125), (-0.5, 0.875)} <= drawn_points(figures.prior_gradient(run, changed).axes[1])
    assert (-3.0, 0.125) not in drawn_points(figures.prior_gradient(run, summary).axes[1])


def test_margins_scatter_is_the_readings_and_the_line_is_equality(run, summary):
    axes = figures.margins(run, summary).axes[0]
    rows = run.readings.query("split == 'conflict' and condition == 'as-delivered' and status == 'ok'")
    expected = rows[["prior_margin", "adapter_margin"]].to_numpy(float)
    found = dots_of(axes)
    assert sorted(map(tuple, found.round(9))) == sorted(map(tuple, expected.round(9)))
    assert any(len(x) == 2 and np.allclose(x, y) for x, y in lines_of(axes))
    labels = " ".join(drawing.get_text() for drawing in axes.figure.legends[0].get_texts())
    known = int(rows.known.sum())
    overridden = int(rows[rows.known.astype(bool)].success_top1.astype(bool).sum())
    assert f"overridden, model knew the old answer ({overridden})" in labels
    assert f"not overridden, model knew the old answer ({known - overridden})" in labels


def test_unmeasured_items_are_in_no_figure(run, summary):
    """An item with an error and absurd numbers must change no plotted point."""
    rows = run.readings.copy()
    rows.loc[rows.status == "error", ["prior_margin", "adapter_margin", "prior_logprob", "frequency"]] = 1e6
    spoiled = replace(run, readings=rows)
    for draw in (figures.margins, figures.constancy, figures.prior_gradient):
        for before, after in zip(draw(run, summary).axes, draw(spoiled, summary).axes, strict=True):
            assert np.array_equal(dots_of(before), dots_of(after))


def test_constancy_uses_log_frequency_where_the_slopes_do_and_prior_strength_where_not(run, summary):
    rows = run.readings.query("split == 'conflict' and condition == 'as-delivered' and status == 'ok'")
    found = dots_of(figures.constancy(run, summary).axes[0])
    assert np.allclose(np.sort(found[:, 0]), np.sort(np.log(rows.frequency.to_numpy(float))))
    changed = copy.deepcopy(summary)
    for row in changed["margins"]["slopes"]:
        row["axis"] = "prior_logprob"
    found = dots_of(figures.constancy(run, changed).axes[0])
    assert np.allclose(np.sort(found[:, 0]), np.sort(rows.prior_logprob.to_numpy(float)))


def test_no_curve_of_layers_lies_behind_a_legend(run, summary):
    drawing = figures.layers(run, summary)
    drawing.canvas.draw()
    with_legend = [axes for axes in drawing.axes if axes.get_legend() is not None]
    assert with_legend
    for axes in with_legend:
        box = axes.get_legend().get_window_extent()
        for x, y in lines_of(axes)[:2]:
            assert not any(box.contains(*point) for point in axes.transData.transform(np.column_stack([x, y])))


def test_layers_draws_each_profile_and_leaves_out_what_was_not_measured(run, summary):
    drawing = figures.layers(run, summary)
    titles = [axes.get_title(loc="left") for axes in drawing.axes if axes.get_visible()]
    assert titles == ["Update norm", "Attribution", "Lens", "Direct effect", "Layers chosen"]
    deep = run.layers.query(
        "split in ['conflict', 'novel', 'combination', 'retention'] and condition == 'as-delivered'"
    )
    last = deep[deep.layer == synthetic.LAYERS - 1].direct.mean()
    assert (synthetic.LAYERS - 1, round(last, 6)) in drawn_points(drawing.axes[titles.index("Direct effect")])
    changed = copy.deepcopy(summary)
    for row in changed["layers"]["profile"]:
        row["alone"] = {"mean": 0.25, "low": 0.2, "high": 0.3}
        row["path"] = {"mean": 0.5, "low": 0.4, "high": 0.6}
    panels = {axes.get_title(loc="left"): axes for axes in figures.layers(run, changed).axes}
    assert {"Causal", "Gain path"} <= set(panels)
    assert (synthetic.LAYERS - 1, 0.5) in drawn_points(panels["Gain path"])


def test_components_draws_the_parts_and_leaves_out_what_one_layer_alone_needs_causal_for(run, summary):
    drawing = figures.components(run, summary)
    bars = {round(bar.get_width(), 9) for bar in drawing.axes[0].patches}
    assert bars == {5.0, 4.0, 1.5, -1.0, 0.5}
    share = 8 / 36
    assert {(7.0, round(4.0 * share, 6)), (7.0, round(-share, 6))} <= drawn_points(drawing.axes[1])
    assert {(7.0, round(0.25 * share, 6)), (7.0, round(-1.25 * share, 6))} <= drawn_points(drawing.axes[2])
    assert (7.0, round(-0.2 * share, 6)) in drawn_points(drawing.axes[3])
    changed = copy.deepcopy(summary)
    changed["components"]["alone"] = []
    assert len(figures.components(run, changed).axes) == 3
    changed["components"] = None
    with pytest.raises(figures.FigureUnavailable, match="no section 'components'"):
        figures.components(run, changed)


def test_dose_draws_the_curve_and_every_item_with_both_critical_gains(run, summary):
    left, right = figures.dose_response(run, summary).axes
    expected = {(row["gain"], round(row["value"], 6)) for row in summary["dose"]["curve"]}
    assert expected <= drawn_points(left)
    rows = run.readings.query("split == 'conflict' and condition == 'as-delivered' and status == 'ok'")
    assert len(dots_of(right)) == rows[["critical_gain", "critical_gain_predicted"]].notna().all(axis=1).sum()


def test_base_and_delivered_alone_are_no_dose_response(run, summary):
    changed = copy.deepcopy(summary)
    changed["dose"]["curve"] = [row for row in changed["dose"]["curve"] if row["gain"] in (0.0, 1.0)]
    with pytest.raises(figures.FigureUnavailable, match="no gain besides"):
        figures.dose_response(run, changed)


def test_retention_puts_each_condition_at_its_own_place(run, summary):
    axes = figures.retention(run, summary).axes[0]
    expected = {
        (round(row["retention"]["value"], 6), round(row["override"]["value"], 6))
        for row in summary["matched_retention"]["frontier"]
    }
    assert expected <= drawn_points(axes)


def test_outcomes_show_all_and_known_in_every_split_and_tier(run, summary):
    drawing = figures.outcomes(run, summary)
    panels = {axes.get_title(loc="left"): axes for axes in drawing.axes if axes.get_visible()}
    assert list(panels) == ["novel", "combination", "conflict", "unrelated\nanswers kept", "conflict, light", "conflict, medium",
                            "conflict, deep"]  # fmt: skip
    expected = {round(row["value"], 6) for row in summary["outcomes"]
                if row["measure"] == "top1" and row["split"] == "conflict" and row["tier"] == "deep"
                and row["value"] is not None}  # fmt: skip
    assert expected == {x for x, _ in drawn_points(panels["conflict, deep"])} - {0.0, 1.0} | (expected & {0.0, 1.0})


@pytest.mark.parametrize(
    ("figure", "section"),
    [
        ("prior_gradient", "prior_gradient"),
        ("layers", "layers"),
        ("dose_response", "dose"),
        ("retention", "matched_retention"),
    ],
)
def test_a_figure_without_its_data_says_why_in_the_summarys_words(figure, section, run, summary):
    changed = {**summary, section: None, "notes": {section: "only one gain was tried"}}
    with pytest.raises(figures.FigureUnavailable, match="only one gain was tried"):
        getattr(figures, figure)(run, changed)


def test_files_are_well_formed_and_carry_no_date(written):
    for spec in figures.FIGURES:
        text = (written.folder / "figures" / f"{spec.name}.svg").read_text(encoding="utf-8")
        ElementTree.fromstring(text)
        assert "<dc:date>" not in text
        assert (written.folder / "figures" / f"{spec.name}.png").read_bytes().startswith(b"\x89PNG")
        pdf = (written.folder / "figures" / f"{spec.name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert b"/CreationDate" not in pdf
        assert b"/Type /Font /Subtype /Type3" not in pdf  # outlines that cannot be searched
        assert b"DejaVuSans" in pdf  # the font that the SVG's outlines are of


def test_a_run_folder_gives_the_same_figure_as_the_run(run, summary, tmp_path):
    for name, table in (("readings", run.readings), ("layers", run.layers)):
        (tmp_path / name).mkdir()
        table.to_parquet(tmp_path / name / "part-0.parquet")
    (tmp_path / "manifest.json").write_text(json.dumps(run.manifest))
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    for draw in (figures.margins,):
        one, *_ = figures.save(draw(tmp_path), tmp_path / "one")
        two, *_ = figures.save(draw(run, summary), tmp_path / "two")
        assert one.read_bytes() == two.read_bytes()


def test_rc_settings_override_the_house_style(run, summary):
    assert figures.margins(run, summary).get_facecolor()[:3] != (0, 0, 0)
    assert figures.margins(run, summary, rc={"figure.facecolor": "black"}).get_facecolor()[:3] == (0, 0, 0)
    assert PAPER != "black"


def test_the_sessions_matplotlib_settings_override_the_house_style(run, summary, tmp_path):
    plain = figures.margins(run, summary)
    with matplotlib.rc_context({"axes.facecolor": "#123456", "axes.labelsize": 17, "savefig.dpi": 50}):
        own = figures.margins(run, summary)
        _, png, _ = figures.save(own, tmp_path / "own")
    assert own.axes[0].get_facecolor() == matplotlib.colors.to_rgba("#123456")
    assert own.axes[0].xaxis.label.get_size() == 17
    assert own.get_facecolor() == plain.get_facecolor() == matplotlib.colors.to_rgba(PAPER)
    assert matplotlib.image.imread(png).shape[1] == 50 * own.get_figwidth()
    with matplotlib.rc_context({"axes.labelsize": 17}):
        called = figures.margins(run, summary, rc={"axes.labelsize": 5})
    assert called.axes[0].xaxis.label.get_size() == 5


def test_colours_that_are_told_apart_stay_apart_for_colour_blind_eyes():
    """Pairs that carry meaning, seen through Machado, Oliveira & Fernandes (2009), severity 1, in CIELAB."""
    pairs = [(YES, NO), (ADAPTED, OTHER), (BASE, ADAPTED), *itertools.combinations(SPLITS.values(), 2)]
    for matrix in BLIND.values():
        seen = {c: lab(matrix @ linear(c)) for pair in pairs for c in pair}
        for first, second in pairs:
            assert np.linalg.norm(seen[first] - seen[second]) > 15, (first, second)
    # The check can fail: a red and a green of one lightness.
    red, green = (lab(BLIND["deutan"] @ linear(c)) for c in ("#c55a11", "#70880f"))
    assert np.linalg.norm(red - green) < 15


BLIND = {
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip


def linear(colour):
    """sRGB as linear light [3]."""
    value = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(light):
    """Linear sRGB to CIELAB, D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ light.clip(0, 1)
    t = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_calibration_puts_every_bin_at_its_net_margin_and_share(run, summary):
    panels = figures.calibration(run, summary).axes
    for axes, measure in zip(panels, ("top1", "answer"), strict=True):
        rows = [row for row in summary["criterion"]["calibration"] if row["measure"] == measure]
        assert {(round(row["net_mean"], 6), round(row["value"], 6)) for row in rows} <= drawn_points(axes)
        assert (0.0, 0.0) in drawn_points(axes)
        assert (0.0, 1.0) in drawn_points(axes)


def test_disagreement_draws_every_pattern_and_both_pairs_of_each_condition(run, summary):
    marks, shares, right = figures.disagreement(run, summary).axes
    dots = [line for line in marks.lines if line.get_marker() == "o"]
    filled = [line for line in dots if line.get_markerfacecolor() != PAPER]
    assert (len(dots), len(filled)) == (9, 4)
    patterns = summary["measures"]["patterns"]
    assert {(round(row["value"], 6), float(place)) for place, row in enumerate(patterns)} <= drawn_points(shares)
    found = {x for x, _ in drawn_points(right)}
    pairs = [row for row in summary["measures"]["pairs"] if (row["first"], row["second"]) != ("margin", "answer")]
    assert {round(row["value"], 6) for row in pairs} <= found


def test_retention_draws_the_comparison_at_equal_retention_where_there_is_one(run, summary):
    axes = figures.retention(run, summary).axes
    assert (round(summary["matched_retention"]["comparisons"][0]["difference"]["value"], 6), 0.0) in drawn_points(
        axes[1]
    )
    assert any("vs 1.60" in label.get_text() for label in axes[1].get_yticklabels())
    changed = copy.deepcopy(summary)
    changed["matched_retention"]["comparisons"] = []
    assert len(figures.retention(run, changed).axes) == 1


def test_retention_draws_kl_as_a_second_cost_where_every_condition_has_one(run, summary):
    changed = copy.deepcopy(summary)
    frontier = changed["matched_retention"]["frontier"]
    for number, row in enumerate(frontier):
        row["kl"] = {"value": 0.05 * number, "low": 0.04 * number, "high": 0.06 * number, "n": 40, "points": 20}
    changed["matched_retention"]["kl"] = copy.deepcopy(changed["matched_retention"]["comparisons"][:1])
    changed["matched_retention"]["kl"][0]["difference"]["value"] = -0.0625
    kept, kl, differences = figures.retention(run, changed).axes
    for axes, cost in ((kept, "retention"), (kl, "kl")):
        places = {(round(row[cost]["value"], 6), round(row["override"]["value"], 6)) for row in frontier}
        assert places <= drawn_points(axes)
    assert kl.get_xlim()[0] > kl.get_xlim()[1] == 0, "cheap is on the right, as for retention"
    assert -0.0625 in {x for x, _ in drawn_points(differences)}
    frontier[0]["kl"] = None
    assert len(figures.retention(run, changed).axes) == 2


def test_constancy_draws_the_summarys_line_and_none_without_one(run, summary):
    changed = copy.deepcopy(summary)
    changed["margins"]["slopes"][0]["line"] = [{"at": 0.5, "value": 1.25, "low": 1.0, "high": 1.5},
                                            {"at": 2.5, "value": 4.25, "low": 4.0, "high": 4.5}]  # fmt: skip
    assert {(0.5, 1.25), (2.5, 4.25)} <= drawn_points(figures.constancy(run, changed).axes[0])
    assert (0.5, 1.25) not in drawn_points(figures.constancy(run, summary).axes[0])


def test_names_from_outside_do_not_break_a_figure(run, summary, tmp_path):
    """Dollar signs are not read as mathematics; control characters do not reach the XML."""
    odd = "slb $x^{2 \x00\u202e <b>&"
    changed = json.loads(json.dumps(summary).replace('"slb"', json.dumps(odd)))
    conditions = [odd if name == "slb" else name for name in synthetic.CONDITIONS]
    renamed = replace(run, manifest={**run.manifest, "conditions": conditions})
    for draw in (figures.outcomes, figures.retention, figures.layers):
        drawing = draw(renamed, changed)
        svg, *_ = figures.save(drawing, tmp_path / "odd")
        words = [text.get_text() for text in drawing.findobj(Text)]
        assert any(word.startswith("slb $x^{2  <b>&") for word in words), draw.__name__
        assert not any(mark in word for word in words for mark in "\x00\u202e")
        ElementTree.fromstring(svg.read_text(encoding="utf-8"))


def test_figures_of_a_simulated_audit():
    """The pieces fit: a simulated run, the package's own summary, every figure."""
    simulate = pytest.importorskip("tests.simulate")
    from override_gap.analyses.summary import summarise

    run = simulate.simulate_readings(seed=3, errors=2)
    summary = summarise(run)
    for spec in figures.FIGURES:
        absent = {  # what no simulation of tests/simulate.py holds
            "robustness": "--probes",
            "causes": "was searched",
            "prior_dose": "--probes",
            "components": "--probes",
            "belief": "no question of belief",
            "one_item": "gain-path",
        }
        if spec.name in absent:
            with pytest.raises(figures.FigureUnavailable, match=absent[spec.name]):
                spec.draw(run, summary)
            continue
        assert spec.draw(run, summary).axes
        spec.caption(summary)


def test_questions_of_belief_stand_at_their_shares_and_hollow_where_the_base_cannot_answer(run, summary):
    axes = figures.belief(run, summary).axes[0]
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 1]
    at = {(round(float(np.ravel(line.get_xdata())[0]), 6), line.get_mfc() == PAPER) for line in drawn}
    shares = (0.6, 0.8, 0.1, 0.2)
    expected = {(value, False) for value in shares} | {(round(v + 0.01, 6), False) for v in shares}
    assert at == expected | {(round(value + 0.02, 6), True) for value in shares}
    assert axes.get_yticklabels()[2].get_text().endswith("base cannot")


@pytest.mark.parametrize("name", ["margins", "prior_gradient", "constancy", "dose_response"])
def test_a_cloud_of_many_points_is_a_picture_in_vector_files(name, run, summary, tmp_path, monkeypatch):
    spec = next(spec for spec in figures.FIGURES if spec.name == name)
    few, *_ = figures.save(spec.draw(run, summary), tmp_path / "few")
    monkeypatch.setattr(sys.modules[spec.draw.__wrapped__.__module__], "CLOUD", 3)
    drawing = spec.draw(run, summary)
    many, *_ = figures.save(drawing, tmp_path / "many")
    assert sum(len(dots_of(axes)) for axes in drawing.axes) > 3
    shapes, pictures = (few.read_text(encoding="utf-8"), many.read_text(encoding="utf-8"))
    assert "<image" not in shapes
    assert "data:image/png" in pictures
    assert pictures.count("<use") < shapes.count("<use") - 3


def test_calibration_of_one_measure_keeps_its_words_inside_and_names_that_one(run, summary):
    changed = copy.deepcopy(summary)
    rows = changed["criterion"]["calibration"]
    changed["criterion"]["calibration"] = [row for row in rows if row["measure"] == "top1"]
    drawing = figures.calibration(run, changed)
    drawing.draw_without_rendering()
    width = drawing.bbox.width
    # ticks beyond the limits have labels that are never drawn
    ticks = {label for axes in drawing.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()}
    for text in drawing.findobj(Text):
        if text.get_text().strip() and text not in ticks:
            box = text.get_window_extent()
            assert box.x0 > -1, text.get_text()
            assert box.x1 < width + 1, text.get_text()
    spec = next(spec for spec in figures.FIGURES if spec.name == "calibration")
    assert "judged by the first token." in spec.caption(changed).shows
    assert "judged by the first token and by the whole greedy answer." in spec.caption(summary).shows


@pytest.mark.parametrize("conditions", [2, 18])
def test_the_legend_of_the_disagreements_is_below_the_axis_however_low_the_figure(conditions, run, summary):
    changed = copy.deepcopy(summary)
    pairs = changed["measures"]["pairs"]
    shown = list(dict.fromkeys(row["condition"] for row in pairs))[:conditions]
    changed["measures"]["pairs"] = [row for row in pairs if row["condition"] in shown]
    drawing = figures.disagreement(run, changed)
    drawing.draw_without_rendering()
    axes = drawing.axes[-1]
    assert axes.get_legend().get_window_extent().y1 < axes.xaxis.label.get_window_extent().y0


def test_bars_of_causes_are_as_long_as_their_shares_and_numbered(run, summary):
    axes = figures.causes(run, summary).axes[0]
    bars = {(round(bar.get_y() + bar.get_height() / 2), round(bar.get_x(), 4)): bar.get_width() for bar in axes.patches}
    drawn = {place: width for place, width in bars.items() if width}
    left, expected = {}, {}
    order = ["too weak", "at a price", "third token", "no content"]
    for row in sorted(summary["verdict"]["causes_by_prior"], key=lambda row: order.index(row["cause"])):
        y = ["all", "Q1", "Q4"].index(row["group"])
        expected[y, round(left.get(y, 0.0), 4)] = pytest.approx(row["count"] / row["n"])
        left[y] = left.get(y, 0.0) + row["count"] / row["n"]
    assert drawn == expected
    texts = {text.get_text() for text in axes.texts}
    assert {"28", "n = 40 of 90", "n = 20 of 22"} <= texts


def test_without_causes_there_is_no_figure_of_them(run, summary):
    verdict = {key: value for key, value in summary["verdict"].items() if key != "causes_by_prior"}
    with pytest.raises(figures.FigureUnavailable, match="no failing conflict was searched"):
        figures.causes(run, {**summary, "verdict": verdict})
