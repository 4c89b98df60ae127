"""The prior-dose experiment's analysis, on experiments simulated from logits and on worked numbers."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.dose_answer import cautions
from override_gap.analyses.dose_rows import PLACEBO, less_placebo, under
from override_gap.analyses.dose_slopes import pass_through, selection, slopes, steps
from override_gap.analyses.hypotheses import STANDARD, evaluate
from override_gap.analyses.prior_dose import compared, failure_rise, prior_dose, slope_rows
from override_gap.analyses.readings import RunFrame, values
from override_gap.reports.page.prior_dose_tables import prior_dose_tables
from tests.reports.test_schema import SCHEMA, defects
from tests.simulated_doses import DOSES, Experiment, experiment, manifest, of_truth

H6 = STANDARD[5]
RIGHT = {
    "shift": "constant",
    "growing": "grows",
    "level": "level",
    "falling": "falls",
    "opposites": "opposites",
    "bending": "bends",
}


def run_of(name, seed=0, **changes):
    return experiment(np.random.default_rng([seed, 7]), of_truth(name, **changes))


def by_hand(rows, doses):
    """The within-item slope, item by item with numpy's own fit, weighted by each item's variation of the dose."""
    top = bottom = 0.0
    for _, item in rows.groupby("item"):
        item = item[[dose in doses for dose in item["dose"]]]
        x, y = item["moved"].to_numpy(float), -item["net_margin"].to_numpy(float)
        spread = ((x - x.mean()) ** 2).sum()
        if spread > 0:
            top, bottom = top + spread * np.polyfit(x, y, 1)[0], bottom + spread
    return top / bottom


def readings(net, prior, top1=None, arm="own", **columns):
    """Rows of one item from its net and prior margins by dose; the readings that go with them."""
    rows = []
    for dose, value in net.items():
        rows.append(
            {"item": "a", "point": "p", "split": "conflict", "arm": arm, "dose": dose, "condition": "as-delivered",
             "reached": True, "moved": prior[dose] - prior[0.0], "prior_margin": prior[dose], "net_margin": value,
             "adapter_margin": value + prior[dose], "success_top1": (top1 or {}).get(dose, value > 0)} | columns
        )  # fmt: skip
    return rows


def run_from(rows):
    table = pd.DataFrame(rows)
    names = ["item", "point", "split", "prior_margin", "adapter_margin", "net_margin", "success_top1"]
    items = table[table["dose"] == 0].drop_duplicates("item")[names]
    read = items.assign(
        condition="as-delivered", known=True, status="ok", prior_logprob=-0.1, push=1.0, pull=0.0, error=None,
        success_margin=items["net_margin"] > 0,
    )  # fmt: skip
    return RunFrame(manifest(), read, extra={"prior_dose": table})


@pytest.mark.parametrize("name", RIGHT)
def test_simulated_adapters_are_told_apart(name):
    answers = [slopes(compared(run_of(name, seed))[1]).answer() for seed in range(3)]
    assert answers == [RIGHT[name]] * 3


@pytest.mark.parametrize(("name", "status"), [("shift", "supported"), ("growing", "refuted"), ("opposites", "refuted")])
def test_h6_follows_the_truth(name, status):
    (result,) = evaluate(run_of(name, items=120, points=70), [H6])
    assert result.status == status


def test_slopes_are_those_of_each_item_fitted_alone():
    own = under(run_of("growing"))
    for sign, doses in (("all", DOSES), ("raised", (0.0, 2.0, 4.0, 8.0)), ("lowered", (-4.0, -2.0, 0.0))):
        assert pass_through(own, sign).value == pytest.approx(by_hand(own, doses), abs=1e-9)


def test_a_placebo_takes_off_what_an_update_as_such_does():
    """Every update shrinks the margin here by half a nat per nat of dose: the own slope is off by it over raised doses."""
    run = experiment(np.random.default_rng(3), Experiment(shrink=0.5, varies=0.0, noise=0.05))
    own = under(run)
    assert pass_through(own, "raised").value == pytest.approx(1.5, abs=0.06)
    assert pass_through(own, "lowered").value == pytest.approx(0.5, abs=0.06)
    corrected = less_placebo(own, under(run, PLACEBO))
    for doses in ("raised", "lowered", "all"):
        assert pass_through(corrected, doses).value == pytest.approx(1.0, abs=0.06)


def test_with_the_final_norm_held_the_slope_is_that_of_the_net_margin_so_read():
    """The simulated norm divides everything by 1.2, the belief included: without it the slope is 1.2 times as steep."""
    run = run_of("shift")
    rows = {(row["update"], row["doses"], row["items"]): row["value"] for row in slope_rows(run)}
    for key in (("all", "all"), ("raised", "all"), ("all", "lowest third")):
        assert rows["own, final norm held", *key] == pytest.approx(1.2 * rows["own", *key], abs=1e-9)


def test_doses_up_to_four_nats_have_a_slope_of_their_own_and_the_old_answers_rise_is_said():
    """Where larger doses bend away, the slope without them is that fitted by hand to the others."""
    run = run_of("shift")
    table = run.table("prior_dose")
    net = values(table["net_margin"]) - 20 * (values(table["dose"]) == 8)
    bent = RunFrame(run.manifest, run.readings, extra={"prior_dose": table.assign(net_margin=net)})
    found = {row["doses"]: row["value"] for row in slope_rows(bent) if row["update"] == "own" and row["items"] == "all"}
    rows = under(bent)
    assert found["up to 4 nats"] == pytest.approx(by_hand(rows, [d for d in (0.0, *DOSES) if abs(d) <= 4]))
    assert found["all"] > found["up to 4 nats"] + 1
    control = next(row for row in prior_dose(run)["controls"] if row["arm"] == "own" and row["dose"] == 8)
    assert control["old_lead_moved"]["value"] == pytest.approx(0.25 * control["moved"]["value"], rel=1e-6)


def test_slopes_from_dose_to_dose_are_those_of_two_doses_by_hand():
    rows = under(run_of("bending"))
    found = steps(rows)
    assert [(low, high) for low, high, _ in found] == [(-4, -2), (-2, 0), (0, 2), (2, 4), (4, 8)]
    for low, high, slope in found:
        assert slope.value == pytest.approx(by_hand(rows, (low, high)))


def test_no_answer_is_read_from_doses_that_were_hardly_reached_or_without_thirds():
    run = run_of("growing")
    table = run.table("prior_dose")
    lost = (table["arm"] == "own") & (table["dose"] > 2) & (table["item"] > "i00005")
    fewer = table.assign(reached=table["reached"] & ~lost, net_margin=table["net_margin"].where(~lost))
    section = prior_dose(RunFrame(run.manifest, run.readings, extra={"prior_dose": fewer}))
    assert prior_dose(run)["answer"] == "grows"
    assert section["answer"] == "open"
    assert "of the raised doses" in section["sentence"]
    judged = slopes(under(run_of("shift")))
    assert judged.answer() == "constant"
    assert dataclasses.replace(judged, parts={}).answer() == "open"


def test_the_sentence_warns_of_priors_beyond_the_runs_own_and_of_updates_that_harm_unrelated_answers():
    run = run_of("shift")
    table = run.table("prior_dose")
    base = (table["condition"] == "base") & (table["arm"] == "own")
    natural = values(run.select("conflict", "as-delivered", "known")["prior_margin"])
    beyond = (values(table.loc[base & (table["dose"] == 8), "prior_margin"]) > natural.max()).mean()

    def warned(**columns):
        return cautions(RunFrame(run.manifest, run.readings, extra={"prior_dose": table.assign(**columns)}))

    above = values(table["prior_margin"]) + natural.max()
    assert warned(prior_margin=above) == [
        "At +8 nats 100% of the priors are larger than any of the run's known conflicts."
    ]
    assert bool(cautions(run)) == (beyond > 0.1)
    harmed = warned(prior_margin=-50.0, kept=values(table["kept"]) * 0.5)
    assert len(harmed) == 1
    assert "keep 50% of unrelated answers" in harmed[0]
    assert cautions(RunFrame(run.manifest, run.readings, extra={"prior_dose": table[~base]})) == []


def test_prediction_of_failure_by_hand():
    """Net 3 without a dose: a dose of 2 leaves 1, one of 4 leaves -1. A third token before a positive margin is taken to stay."""
    prior = {-2.0: 3.0, 0.0: 5.0, 2.0: 7.0, 4.0: 9.0}
    rows = readings({-2.0: 4.0, 0.0: 3.0, 2.0: 2.0, 4.0: 0.5}, prior)
    found = under(run_from(rows)).set_index("dose")
    assert found["predicted_fails"].to_dict() == {-2.0: 0, 0.0: 0, 2.0: 0, 4.0: 1}
    assert found["fails"].to_dict() == {-2.0: 0, 0.0: 0, 2.0: 0, 4.0: 0}
    third = readings({0.0: 3.0, 2.0: 2.0}, prior, top1={0.0: False, 2.0: False})
    assert under(run_from(third))["predicted_fails"].tolist() == [1, 1]
    # beside a placebo the prediction starts from the placebo's net margin, and counts what moved beyond the placebo
    placebo = readings({0.0: 3.0, 2.0: 1.5, 4.0: 1.0}, {0.0: 5.0, 2.0: 5.0, 4.0: 5.0}, arm="placebo")
    run = run_from(rows + [row for row in placebo if row["dose"]])
    both = less_placebo(under(run), under(run, PLACEBO)).set_index("dose")
    assert sorted(both.index) == [0.0, 2.0, 4.0]
    assert both["net_margin"].to_dict() == {0.0: 0, 2.0: 0.5, 4.0: -0.5}
    assert both["predicted_fails"].to_dict() == {0.0: 0, 2.0: 1, 4.0: 1}


def test_a_third_token_stays_first_when_the_prior_is_lowered():
    """Net -1 without a dose: lowered by 2 y_doc passes y_pre, and not a third token that stands before both."""
    prior = {-2.0: 3.0, 0.0: 5.0, 2.0: 7.0}
    net = {-2.0: 1.0, 0.0: -1.0, 2.0: -3.0}
    base = readings(net, prior, condition="base", top_token="old")
    told = {}
    for token in ("old", "third"):
        rows = readings(net, prior, top_token=token, top1=dict.fromkeys(net, False))
        placebo = readings(dict.fromkeys(net, -1.0), dict.fromkeys(net, 5.0), arm="placebo", top_token=token)
        run = run_from(base + rows + [row for row in placebo if row["dose"]])
        own = under(run)
        told[token] = own.set_index("dose")["predicted_fails"].to_dict()
        corrected = less_placebo(own, under(run, PLACEBO)).set_index("dose")["predicted_fails"].to_dict()
        assert corrected == told[token]
    assert told == {"old": {-2.0: 0, 0.0: 1, 2.0: 1}, "third": {-2.0: 1, 0.0: 1, 2.0: 1}}


def test_rise_in_failures_by_hand():
    """Four points; raised by 2 the net margin of 1 fails under a constant adapter margin, of 3 does not; half of those fail."""
    rows = []
    for number, (net, after) in enumerate([(1.0, -1.0), (1.0, 0.5), (3.0, 1.0), (-2.0, -4.0)]):
        each = readings({0.0: net, 2.0: after}, {0.0: 4.0, 2.0: 6.0})
        rows += [row | {"item": f"i{number}", "point": f"p{number}"} for row in each]
    rise = failure_rise(under(run_from(rows)))
    assert (rise.observed.value, rise.predicted.value, rise.flips) == (0.25, 0.5, 2)


def test_what_unreached_doses_hide_lies_between_the_bounds():
    run = run_of("shift", unreached=2.0)
    own = under(run)
    found = selection(own, list(DOSES))
    missed = ~own["reached"].astype(bool)
    assert found["asked"] - found["reached"] == missed.sum() > 5
    assert found["prior_of_unreached"] > found["prior_of_reached"] + 1
    by_rows = {row["rows"]: row["value"] for row in found["slopes"]}
    assert by_rows["lowest"] < by_rows["as_moved"] < by_rows["highest"]
    assert by_rows["complete"] == pytest.approx(
        by_hand(own[~own["item"].isin(own.loc[missed, "item"])], DOSES), abs=1e-9
    )
    # rows that were not written at all are missed as well
    gone = selection(own[~missed], list(DOSES))
    assert (gone["asked"], gone["reached"]) == (found["asked"], found["reached"])
    bounds = {row["rows"]: row["value"] for row in gone["slopes"]}
    assert [bounds[side] for side in ("lowest", "highest")] == pytest.approx([by_rows["lowest"], by_rows["highest"]])


def test_a_dose_that_nobody_reached_leaves_no_bounds():
    """Nothing was seen at 8 nats: whatever is put there is a guess. Rows that were not read make `as_moved` what `reached` is."""
    own = under(run_of("shift"))
    never = values(own["dose"]) == 8
    silent = own.assign(reached=own["reached"].astype(bool) & ~never, net_margin=own["net_margin"].where(~never))
    found = selection(silent, list(DOSES))
    assert [row["rows"] for row in found["slopes"]] == ["reached"]
    run = run_of("shift")
    table = run.table("prior_dose").drop(columns="cluster")
    gone = (values(table["dose"]) == 8) & (table["arm"] == "own").to_numpy()
    table = table.assign(
        reached=table["reached"].astype(bool) & ~gone,
        net_margin=table["net_margin"].where(~gone),
        success_top1=table["success_top1"].astype(float).where(~gone),
    )
    section = prior_dose(RunFrame(run.manifest, run.readings, extra={"prior_dose": table}))
    *_, hidden = prior_dose_tables({"prior_dose": section.as_json()})
    assert "no item reached 8 nats, so that nothing bounds the slope there" in hidden.note
    some = never & (np.cumsum(never) > 2)
    partly = own.assign(reached=own["reached"].astype(bool) & ~some, net_margin=own["net_margin"].where(~some))
    names = [row["rows"] for row in selection(partly, list(DOSES))["slopes"]]
    assert {"lowest", "highest"} < set(names)
    assert "as_moved" not in names


def test_h6_says_how_many_items_fell_out_for_want_of_a_placebo():
    run = run_of("shift", items=32, points=24)
    table = run.table("prior_dose").drop(columns="cluster")
    kept = sorted(table["item"].unique())[:18]
    table = table[(table["arm"] == "own") | table["item"].isin(kept)]
    reason = evaluate(RunFrame(run.manifest, run.readings, extra={"prior_dose": table}), [H6])[0].reason
    assert reason.startswith("under raised doses: 18 conflicts")
    assert reason.endswith("; 14 more items fell out, as they have no placebo to take off")


def test_rows_that_were_not_read_are_left_out_and_counted():
    run = run_of("shift")
    table = run.table("prior_dose")
    silent = (table["dose"] == 8) & (table["arm"] == "own") & (values(table["prior_margin"]) > 13)
    empty = ("moved", "prior_margin", "push", "pull", "adapter_margin", "net_margin", "success_top1")
    changed = table.copy()
    for name in empty:
        changed[name] = changed[name].astype(object).where(~silent, None)
    changed["reached"] = changed["reached"].where(~silent, False)
    found = prior_dose(RunFrame(run.manifest, run.readings, extra={"prior_dose": changed}))
    assert found["answer"] == "constant"
    (row,) = (
        row for row in found["doses"] if (row["condition"], row["arm"], row["dose"]) == ("as-delivered", "own", 8.0)
    )
    lost = int((silent & (table["condition"] == "as-delivered")).sum())
    assert lost > 3
    assert row["asked"] == 60
    assert row["success"]["n"] == 60 - lost
    assert row["success_least"] * 60 == pytest.approx(row["success_most"] * 60 - (row["asked"] - row["reached"]))


def test_the_section_fits_the_schema_and_its_order_does_not_matter():
    run = run_of("growing")
    table = run.table("prior_dose").drop(columns="cluster")
    mixed = RunFrame(run.manifest, run.readings, extra={"prior_dose": table.sample(frac=1, random_state=1)})
    one, two = prior_dose(run).as_json(), prior_dose(mixed).as_json()
    assert defects(one, SCHEMA["properties"]["prior_dose"]) == []
    assert one["sentence"] == two["sentence"]
    assert one["doses"] == two["doses"]
    described = SCHEMA["properties"]["prior_dose"]["properties"]
    assert set(one) == set(described)
    assert {key for row in one["doses"] for key in row} == set(described["doses"]["items"]["properties"])


def test_without_doses_there_is_no_section_and_no_test():
    run = run_of("shift")
    bare = RunFrame(run.manifest, run.readings)
    assert prior_dose(bare) is None
    (result,) = evaluate(bare, [H6])
    assert (result.status, "--probes prior-dose" in result.reason) == ("not testable", True)
    small = run_of("shift", items=15, points=12)
    assert evaluate(small, [H6])[0].reason.startswith("under raised doses: 15 conflicts")


def test_an_adapter_that_never_succeeds_cannot_be_tested():
    """Nothing can begin to fail: the slope is 1, but no failure is caused."""
    run = experiment(np.random.default_rng(1), Experiment())
    table = run.table("prior_dose").drop(columns="cluster")
    delivered = table["condition"] == "as-delivered"
    table = table.assign(
        net_margin=table["net_margin"] - 30.0 * delivered, success_top1=table["success_top1"] & ~delivered
    )
    (result,) = evaluate(RunFrame(run.manifest, run.readings, extra={"prior_dose": table}), [H6])
    assert result.status == "not testable"
    assert "0 of 60 items begin to fail" in result.reason
