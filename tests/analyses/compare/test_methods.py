"""Methods side by side: known differences are found at the stated rate, equal runs differ by nothing, order is free."""

import copy
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from override_gap.analyses.compare.methods import mean_ranks, order, pairs, side_by_side
from override_gap.analyses.compare.pairing import Cell, pair
from override_gap.analyses.readings import RunFrame
from tests.simulate import simulate_readings

PLACE = {"split": "conflict", "measure": "top1", "tier": None, "population": "all"}
FEW = {"conditions": ("base", "as-delivered"), "others": 20, "with_layers": False}


def run(fault="magnitude", seed=1, **more):
    return simulate_readings(seed, fault=fault, **(FEW | more))


def row(rows, split="conflict", measure="top1", tier=None, population="all", **more):
    wanted = {"split": split, "measure": measure, "tier": tier, "population": population, **more}
    return next(own for own in rows if all(own[key] == value for key, value in wanted.items()))


def headline(first, second):
    """The paired row of all conflicts by top1, without the rest of the comparison."""
    joint = pair({"a": first, "b": second}, "as-delivered")
    return pairs(next(cell for cell in joint.cells() if cell.named() == PLACE), ("a", "b"))[0]


def changed(run, **manifest):
    return RunFrame(run.manifest | manifest, run.readings, run.layers)


def test_equal_runs_differ_by_exactly_nothing():
    found = side_by_side({"a": run(), "b": run()})
    assert len(found.pairs) > 20
    for own in found.pairs:
        assert (own["difference"]["value"], own["p"], own["p_holm"]) == (0.0, 1.0, 1.0)
        assert own["difference"]["low"] <= 0 <= own["difference"]["high"]
        assert own["gained"] == own["lost"] == 0
    assert all(own["holds"] is None for own in found.order)
    assert {method["first"] for own in found.order for method in own["methods"]} == {0.5}
    assert not any(own["count"] for own in found.only)


def test_a_known_difference_is_covered_and_found():
    pairing = ("magnitude", "mixture")
    large = [run(fault, 99, points=20_000, questions=20_000, others=0) for fault in pairing]
    means = [own.select("conflict", "as-delivered")["success_top1"].astype(float).mean() for own in large]
    truth = means[0] - means[1]
    assert truth > 0.1
    covered, found, trials = 0, 0, 120
    for seed in range(trials):
        own = headline(*(run(fault, seed, others=0) for fault in pairing))
        covered += own["difference"]["low"] <= truth <= own["difference"]["high"]
        found += own["p"] < 0.05 and own["difference"]["value"] > 0
    slack = 3 * np.sqrt(0.95 * 0.05 / trials)
    assert covered / trials >= 0.95 - slack
    assert found / trials >= 0.95


def test_two_methods_that_differ_by_chance_only_are_seldom_told_apart():
    rng, hits, trials = np.random.default_rng(0), 0, 200
    one = run(others=0)
    delivered = (one.readings["condition"] == "as-delivered").to_numpy()
    for _ in range(trials):
        two = []
        for _ in range(2):
            rows = one.readings[delivered].copy()
            codes = rows["point"].astype("category").cat.codes.to_numpy()
            chance = 1 / (1 + np.exp(-rng.normal(size=codes.max() + 1)[codes]))
            rows["success_top1"] = rng.random(len(rows)) < chance
            two.append(RunFrame(one.manifest, rows, one.layers))
        hits += headline(*two)["p"] < 0.05
    assert hits / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_the_order_of_the_runs_does_not_matter():
    runs = {"one": run(), "two": run("mixture"), "three": run("no-failure", errors=5)}
    forth, back = side_by_side(runs), side_by_side(dict(reversed(runs.items())))
    assert forth.order == back.order
    assert forth.notes == back.notes
    for own in forth.pairs:
        other = row(
            back.pairs, own["split"], own["measure"], own["tier"], own["population"],
            first=own["second"], second=own["first"],
        )  # fmt: skip
        assert other["difference"]["value"] == -own["difference"]["value"]
        assert other["difference"]["low"] == pytest.approx(-own["difference"]["high"], abs=1e-12)
        assert (other["p"], other["p_holm"]) == (own["p"], own["p_holm"])
        assert (other["gained"], other["lost"]) == (own["lost"], own["gained"])
    for own in forth.only:
        assert row(back.only, own["split"], own["measure"], method=own["method"]) == own


def test_what_one_method_alone_gets_by_counting_over_rows():
    runs = {"one": run(), "two": run("mixture"), "three": run("flat")}
    found = side_by_side(runs)
    won = {
        name: set(rows.loc[rows["success_top1"].astype(bool), "item"])
        for name, rows in ((name, own.select("conflict", "as-delivered")) for name, own in runs.items())
    }
    for name in runs:
        others = set.union(*(won[other] for other in runs if other != name))
        own = row(found.only, method=name)
        assert {item["item"] for item in own["items"]} == won[name] - others
        assert own["all"] == len(set.intersection(*won.values()))
    alone = row(found.pairs, first="one", second="two")
    assert alone["gained"] == len(won["one"] - won["two"])


def test_every_method_is_read_on_the_same_items():
    found = side_by_side({"one": run(errors=7), "two": run("mixture")})
    ours = [own for own in found.outcomes if own["split"] == "conflict" and own["tier"] is None]
    assert {own["n"] for own in ours if own["population"] == "all" and own["measure"] == "top1"} == {194 - 7}


def test_holm_runs_over_all_pairs():
    found = side_by_side({"one": run(), "two": run("mixture"), "three": run("flat")})
    here = [own for own in found.pairs if all(own[key] == value for key, value in PLACE.items())]
    raw, held = (sorted(own[key] for own in here) for key in ("p", "p_holm"))
    assert len(raw) == 3
    assert held[0] == pytest.approx(min(1, 3 * raw[0]))
    assert held[2] == pytest.approx(min(1, max(3 * raw[0], 2 * raw[1], raw[2])))


def test_rank_stability_against_all_resamples_of_three_points():
    success = np.array([[1, 0], [1, 0], [0, 1.0]])
    cell = Cell("conflict", None, "all", "top1", np.array(list("abc")), np.array(list("abc")), success)
    sums = np.array([success[list(draw)].sum(0) for draw in product(range(3), repeat=3)])
    found = order(cell, ("x", "y"), replicates=20_000)
    assert found["holds"] == pytest.approx((sums[:, 0] > sums[:, 1]).mean(), abs=0.015)
    first = {own["method"]: own["first"] for own in found["methods"]}
    assert first["x"] == pytest.approx(found["holds"], abs=1e-12)  # three points cannot tie
    assert first["x"] + first["y"] == pytest.approx(1)
    assert [own["method"] for own in found["methods"]] == ["x", "y"]


def test_ranks_share_a_tie():
    assert mean_ranks(np.array([[5.0, 7, 5, 1]])).tolist() == [[2.5, 1.0, 2.5, 4.0]]


def test_one_point_gives_no_resample():
    found = side_by_side(
        {"a": run(points=1, questions=3, others=0), "b": run("no-failure", points=1, questions=3, others=0)}
    )
    own = row(found.order)
    assert own["holds"] is None
    assert own["methods"][0]["first"] is None
    assert row(found.pairs)["p"] is None


def unlike(column, text):
    one = run()
    rows = one.readings.copy()
    rows[column] = rows[column].astype(object).where(rows["item"] != "c000003", text)
    return RunFrame(one.manifest, rows, one.layers)


def ids(prefix):
    one = run()
    return RunFrame(one.manifest, one.readings.assign(item=prefix + one.readings["item"]), one.layers)


def no_measure():
    one = run()
    blank = {name: None for name in one.readings.columns if name.startswith("success_")}
    return RunFrame(one.manifest, one.readings.assign(**blank), one.layers)


REFUSED = {
    "one run": (lambda: {"a": run()}, "needs two runs"),
    "another base": (
        lambda: {"a": run(), "b": changed(run(), subject={"name": "other", "fingerprint": "1" * 16})},
        "different base models",
    ),
    "no fingerprint": (lambda: {"a": run(), "b": changed(run(), subject={})}, "no subject fingerprint"),
    "other ids": (lambda: {"a": run(), "b": ids("x-")}, "share no item"),
    "same ids, other question": (
        lambda: {"a": run(), "b": unlike("question", "What else?")},
        "'c000003' in its question",
    ),
    "same ids, other point": (lambda: {"a": run(), "b": unlike("point", "elsewhere")}, "in its point"),
    "other condition": (lambda: {"a": run(), "b": run(conditions=("base", "slb"))}, "no measured reading under"),
    "no measure": (lambda: {"a": run(), "b": no_measure()}, "share no measure"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compared_is_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as caught:
        side_by_side(make())
    assert "\n" not in str(caught.value)


def test_a_part_of_the_items_is_compared_and_said():
    one = run()
    part = RunFrame(one.manifest, one.readings[one.readings["item"] != "c000003"], one.layers)
    found = side_by_side({"a": one, "b": part})
    assert found.items["shared"] == one.readings["item"].nunique() - 1
    assert any("of 234 items" in note for note in found.notes)


def test_a_measure_that_one_run_lacks_is_left_out_and_said():
    one = run()
    bare = replace(one, readings=one.readings.assign(success_answer=None, success_answer_substring=None))
    found = side_by_side({"a": one, "b": bare})
    assert set(found.measures) == {"margin", "top1"}
    assert any("answer is left out" in note for note in found.notes)


def test_the_result_speaks_in_text_and_in_a_notebook():
    found = side_by_side({"<b>one</b>": run(), "two": copy.deepcopy(run("mixture"))})
    assert "<b>one</b> minus two" in str(found)
    assert "&lt;b&gt;one&lt;/b&gt; minus two" in found._repr_html_()
    assert "<b>" not in found._repr_html_()


def test_a_method_that_was_told_the_questions_is_named_beside_one_that_was_not():
    one = run()
    told = changed(one, adapters={"name": "editor", "settings": {"questions_sha256": "0" * 64}})
    plain = changed(one, adapters={"name": "other", "settings": {}})
    said = [note for note in side_by_side({"a": told, "b": plain}).notes if "was told what is asked" in note]
    assert [note.partition(":")[0] for note in said] == ["a"]
    assert not any("was told" in note for note in side_by_side({"a": told, "b": told}).notes)
    assert not any("was told" in note for note in side_by_side({"a": plain, "b": plain}).notes)
