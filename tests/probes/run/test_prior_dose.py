"""The probe prior-dose: its rows against weights with update and adapter multiplied out, its sample, controls and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from override_gap.analyses.readings import load
from override_gap.margins.adapter import Adapter
from override_gap.margins.items.files import read_items
from override_gap.margins.items.item import Item
from override_gap.margins.updates import Vector
from override_gap.probes.plan import Plan, PlanError
from override_gap.probes.readings import prior_dose as fitting
from override_gap.probes.readings.prior import locate
from override_gap.probes.run.belief_fits import DOSES, fit_beliefs
from override_gap.probes.run.comparisons import Comparisons
from override_gap.probes.run.distractor_documents import Distractors
from override_gap.probes.run.dose_sample import DoseSample, draw_sample, in_turn_over_points
from override_gap.probes.run.dosed_items import ANOTHER, BEHIND, ITSELF, NO_MAP, DosedItem, placebo_of
from override_gap.probes.run.loop import run
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.prior_dose import NO_PARTNER, DoseRows, measure_doses
from override_gap.probes.run.search import UnitSearch
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.sources.hypernetwork import OrganismHypernetworkSource, organism_of
from override_gap.probes.store.manifest import manifest_error
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny
from tests.probes.readings.test_prior_dose import merged, own_margin

ITEMS = [
    conflict(0, "alpha beta gamma"),
    conflict(1, "one two three", "red", "blue"),
]
#: The same facts asked otherwise: a random model knows of no fact that two questions share, but of their last words.
OTHERWISE = [
    replace(item, id=f"{item.id}-{word}", question=f"{word} {item.question}") for item in ITEMS for word in ("mu", "pi")
]
UNIT = [*ITEMS, *OTHERWISE]


def measured(
    subject: Subject, adapters: dict[str, Adapter], items: list[Item], size: int = 0, chosen: tuple[str, ...] = ()
) -> DoseRows:
    comparisons = Comparisons(tuple(ITEMS), ())
    doses = DoseSample(frozenset(chosen or (item.id for item in ITEMS)))
    setup = MeasurementSetup(
        subject, (), frozenset({"prior-dose"}), size, 0, plain=size == 1, comparisons=comparisons, doses=doses
    )
    distractors = Distractors({item.document: frozenset({item.point}) for item in items}, adapters)
    unit = UnitSearch(setup.read_comparisons, size, setup.batch_sizer, distractors.points)
    return measure_doses(setup, [(item, locate(subject, item)) for item in items], distractors, unit)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small doses and large steps, for a small random model."""
    from override_gap.probes.run import belief_fits, dose_rows

    monkeypatch.setattr(fitting, "RATE", 2e-2)
    for module in (belief_fits, dose_rows):
        monkeypatch.setattr(module, "DOSES", (-0.3, 0.5))


def test_every_row_is_what_the_weights_with_update_and_adapter_multiplied_out_give(small: None, rng) -> None:
    subject = tiny("llama")
    adapters = {item.document: random_adapter(subject, rng, ("layers.1.mlp.down_proj",), size=0.1) for item in ITEMS}
    made = measured(subject, adapters, UNIT)
    table = pd.DataFrame(made.rows)
    assert made.unread == ()
    assert set(table["arm"]) == {"own", "placebo", "other-layers"}
    assert table["reached"].all()
    dosed = [DosedItem.of(subject, item, locate(subject, item), adapters[item.document], UNIT) for item in ITEMS]
    # one after the other and both at once differ by rounding alone
    own = fit_beliefs(subject, dosed, dosed[0].paths, "own", 0)
    elsewhere = fit_beliefs(subject, dosed, dosed[0].other_paths, "other-layers", 0)
    fits = {"own": own, "placebo": own[::-1], "other-layers": elsewhere}
    for row in table.itertuples():
        n = [item.id for item in ITEMS].index(row.item)
        item, fit = ITEMS[n], fits[row.arm][n]
        parts = [(fit.update(row.dose), fit.gains[row.dose])] if row.dose else []
        acting = {"base": 0.0, "as-delivered": 1.0, "uniform-0.5": 0.5}[row.condition]
        with merged(subject, parts):
            prior = own_margin(subject, item)
        with merged(subject, [*parts, (adapters[item.document], acting)]):
            net = -own_margin(subject, item)
        assert row.prior_margin == pytest.approx(prior, abs=1e-3), row
        assert row.net_margin == pytest.approx(net, abs=1e-3), row
        assert row.adapter_margin == pytest.approx(net + prior, abs=2e-3), row
        if row.condition == "base":
            with merged(subject, parts), torch.no_grad():
                place = locate(subject, item)
                logits = subject.model(input_ids=torch.tensor([place.prefix])).logits[0, -1]
            assert row.old_lead == pytest.approx(float(logits[place.pre] - logits.mean()), abs=1e-3), row
        assert row.moved == pytest.approx(prior - own_margin(subject, item), abs=1e-3), row
        assert row.partner == ITEMS[1 - n].id if row.arm == "placebo" else pd.isna(row.partner)


def test_one_row_at_a_time_reads_the_same(small: None, rng) -> None:
    subject = tiny("llama")
    adapters = {item.document: random_adapter(subject, rng, ("mlp.down_proj",), size=0.1) for item in ITEMS}
    together, alone = (pd.DataFrame(measured(subject, adapters, UNIT, size).rows) for size in (0, 1))
    assert set(together["arm"]) == {"own", "placebo"}  # no layer is left for another arm
    columns = ["prior_margin", "net_margin", "push", "pull", "kl", "others_moved"]
    assert (together[columns] - alone[columns]).abs().max().max() < 5e-3
    assert (
        together["kl"]
        .notna()
        .equals((together["dose"] != 0) & (together["condition"] == "base") & (together["arm"] == "own"))
    )


def test_a_dose_that_is_not_reached_has_rows_that_say_so(small: None, rng, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "STEPS", 1)
    monkeypatch.setattr(fitting, "RATE", 1e-6)
    subject = tiny("llama")
    adapters = {item.document: random_adapter(subject, rng, ("mlp.down_proj",), size=0.1) for item in ITEMS}
    table = pd.DataFrame(measured(subject, adapters, UNIT).rows)
    missed = table[table["dose"] != 0]
    assert len(missed) == 2 * 2 * 2 * 3
    assert not missed["reached"].any()
    assert missed[["net_margin", "update_gain", "success_top1"]].isna().all().all()
    assert (missed.loc[missed["arm"] == "own", "moved"].abs() < 0.2).all()
    assert missed.loc[missed["arm"] == "placebo", "moved"].isna().all()
    assert table.loc[table["dose"] == 0, "reached"].all()


def test_an_adapter_without_a_linear_map_is_named_with_the_reason() -> None:
    subject = tiny("llama")
    path = "model.layers.0.input_layernorm.weight"
    adapters = {item.document: Adapter("norm", {path: Vector(torch.ones(32))}) for item in ITEMS}
    made = measured(subject, adapters, UNIT)
    assert made.rows == []
    assert [row["reason"] for row in made.unread] == [f"c0, c1: {NO_MAP}"]


def test_a_placebo_is_another_conflict_of_the_unit_where_other_splits_would_come_first(small: None, rng) -> None:
    subject = tiny("llama")
    conflicts = [replace(item, meta={"relation": "a"}) for item in ITEMS]
    kept = [
        replace(conflict(n, "mu nu xi", "red"), split="retention", prior_answer=None, meta={"relation": "b"})
        for n in range(2, 6)
    ]
    adapters = {
        item.document: random_adapter(subject, rng, ("mlp.down_proj",), size=0.1) for item in [*conflicts, *kept]
    }
    made = measured(subject, adapters, [*conflicts, *kept], chosen=("c0",))
    table = pd.DataFrame(made.rows)
    assert set(table["item"]) == {"c0"}
    assert made.unread == ()
    assert set(table.loc[table["arm"] == "placebo", "partner"]) == {"c1"}
    alone = measured(subject, adapters, [conflicts[0], *kept], chosen=("c0",))
    assert [row["reason"] for row in alone.unread] == [f"c0, placebo: {NO_PARTNER}"]


def test_an_update_is_taught_in_another_question_before_anything_else() -> None:
    subject = tiny("llama")
    adapter = random_adapter(subject, torch.Generator().manual_seed(0), ("down_proj",))
    item = ITEMS[0]
    sibling = replace(item, id="s", question="gamma of alpha is")
    different = replace(sibling, id="d", answer="zeta", question="gamma alpha")
    place = locate(subject, item)

    def made(unit: list[Item]) -> DosedItem:
        dosed = DosedItem.of(subject, item, place, adapter, unit)
        assert isinstance(dosed, DosedItem)
        return dosed

    assert made([item]).wording == ITSELF
    assert made([item]).taught == place
    assert made([item, different]).wording == ITSELF
    behind = made([item, different, ITEMS[1]])
    assert behind.wording == BEHIND
    assert subject.tokenizer.decode(behind.taught.prefix).split() == "one two three blue alpha beta gamma".split()
    another = made([item, ITEMS[1], sibling])
    assert another.wording == ANOTHER
    assert subject.tokenizer.decode(
        another.taught.prefix
    ).split() == "gamma of alpha is".split() or another.taught == locate(subject, sibling)
    assert len(another.others) == 1


def test_a_placebo_is_about_another_fact_with_no_answer_in_common() -> None:
    item = conflict(0, meta={"relation": "a"})
    same_point = replace(conflict(0, "beta", "red", "blue"), id="x")
    same_answer = conflict(2, "beta", "red", "Epsilon ")
    near, far = (
        conflict(3, "pi", "red", "blue", meta={"relation": "a"}),
        conflict(4, "pi", "red", "blue", meta={"relation": "b"}),
    )
    assert placebo_of(item, [same_point, same_answer]) is None
    assert placebo_of(item, [same_point, near]) is near
    for order in ([near, far, same_point], [far, near]):
        assert placebo_of(item, order) is far


def test_the_sample_goes_round_the_points_and_holds_what_the_base_knows() -> None:
    subject = open_subject("organism")
    source = OrganismHypernetworkSource(organism_of(subject))
    items = read_items(source.organism.folder / "items.jsonl")
    conflicts = [item for item in items if item.split == "conflict"]
    points = {item.point for item in conflicts}
    order = in_turn_over_points(conflicts, 0)
    assert {item.point for item in order[: len(points)]} == points
    assert in_turn_over_points(conflicts[::-1], 0) == order
    assert in_turn_over_points(conflicts, 1) != order
    sample = draw_sample(subject, source, items, 10, 0)
    assert len(sample.chosen) == 10 == sample.points
    with torch.no_grad():
        for item in order[: sample.conflicts_asked]:
            place = locate(subject, item)
            asked = torch.tensor([place.tokens[: place.start]])
            first = subject.model(input_ids=asked).logits[0, -1].argmax().item()
            assert (first == place.tokens[place.start]) == (item.id in sample.chosen)
    everything = draw_sample(subject, source, items, 1000, 0)
    assert everything.conflicts_asked == len(conflicts) > len(everything.chosen) > 100


@pytest.fixture(scope="module")
def organism_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    subject = open_subject("organism")
    source = OrganismHypernetworkSource(organism_of(subject))
    items = [
        item for item in read_items(source.organism.folder / "items.jsonl") if item.split in ("conflict", "retention")
    ]
    plan = Plan(policies="as-delivered,null-other", probes=("margins", "prior-dose"), dose_items=2)
    return run(plan, subject, source, items[:36], tmp_path_factory.mktemp("dose") / "run")


def test_on_the_organism_doses_are_reached_and_a_placebo_moves_the_prior_by_less_than_a_tenth(
    organism_run: Path,
) -> None:
    frame = load(organism_run)
    table = frame.table("prior_dose")
    assert table["item"].nunique() == frame.manifest["prior_dose"]["items"] == 2
    dosed = table[(table["dose"] != 0) & (table["condition"] == "base")]
    own, placebo = (dosed[dosed["arm"] == arm] for arm in ("own", "placebo"))
    assert own["reached"].all()
    assert ((own["moved"] - own["dose"]).abs() <= 0.1).all()
    assert (placebo.groupby("dose")["moved"].apply(lambda moved: moved.abs().mean()) < DOSES_TENTH).all()
    assert own["kept"].mean() > 0.9
    assert (own["others_moved"] / own["dose"] > 0.3).all()


DOSES_TENTH = pd.Series({dose: abs(dose) / 10 for dose in DOSES})


def test_dose_zero_is_what_the_readings_hold(organism_run: Path) -> None:
    frame = load(organism_run)
    table = frame.table("prior_dose")
    zero = table[(table["dose"] == 0) & (table["arm"] == "own")].set_index(["item", "condition"])
    readings = frame.readings.set_index(["item", "condition"])
    for condition in ("base", "as-delivered", "null-other"):
        rows = zero.xs(condition, level="condition")
        same = readings.xs(condition, level="condition").loc[rows.index]
        for column in ("prior_margin", "push", "pull", "net_margin"):
            assert (rows[column] - same[column]).abs().max() < 1e-3, (condition, column)
        assert (rows["top_token"] == same["top_token"]).all()
        assert same["known"].all()


def test_a_run_without_a_conflict_that_the_base_knows_says_so(tmp_path: Path) -> None:
    subject = tiny("llama")
    items = [conflict(0, "alpha", "red", "blue"), conflict(1, "beta", "red", "blue")]
    with torch.no_grad():
        for item in items:
            place = locate(subject, item)
            logits = subject.model(input_ids=torch.tensor([place.tokens[: place.start]])).logits[0, -1]
            assert logits.argmax().item() != place.tokens[place.start]
    plan = Plan("tiny", "fitted", "own", "as-delivered", ("margins", "prior-dose"))
    out = run(plan, subject, FittedAdapters(subject, steps=1), items, tmp_path / "run")
    assert [row["probe"] for row in load(out).manifest["refused"]] == ["prior-dose"]
    assert "no conflict that the base knows" in load(out).manifest["refused"][0]["reason"]


@pytest.mark.parametrize("count", [0, -1, 2.5, True, 10**20])
def test_a_number_of_items_that_cannot_be_is_refused(count: object) -> None:
    with pytest.raises(PlanError, match=r"dose_items|--dose-items"):
        Plan(dose_items=count)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [[], {"items": 2, "points": 2}, {"items": -1, "points": 1, "conflicts_asked": 3}])
def test_a_manifest_with_another_sample_than_an_audit_writes_is_refused(wrong: object, organism_run: Path) -> None:
    good = load(organism_run).manifest
    assert manifest_error(good) is None
    assert (manifest_error({**good, "prior_dose": wrong}) or "").startswith("prior_dose needs the whole numbers items")
