"""Plants are what they say, read by the toolkit's own probes: a route that shares nothing with how they were made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

import override_gap as og
from override_gap.probes.organism.load import load
from override_gap.probes.organism.plants.catalogue import PLANTS
from override_gap.probes.organism.plants.context import PlantingContext, planting_context
from override_gap.probes.organism.plants.items import plant_items, runner_up_items
from override_gap.probes.organism.plants.plant import REPAIRABLE
from override_gap.probes.sources.planted import PlantedSource
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject

LABELS = {"no-failure", "magnitude", "representational", "mixed"}


@pytest.fixture(scope="module")
def subject() -> Subject:
    return open_subject("organism")


@pytest.fixture(scope="module")
def contexts() -> dict[bool, PlantingContext]:
    organism = load()
    items = plant_items(organism, splits=("conflict",))
    # every third point of each tier, so that strong and weak priors are among them
    items = [item for item in items if int(item.point[-2:]) % 3 == 0]
    own = planting_context(organism.hypernetwork, items)
    return {False: own, True: planting_context(organism.hypernetwork, runner_up_items(own))}


Read = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def read(subject: Subject, contexts: dict[bool, PlantingContext]) -> Read:
    """Readings of the known conflicts of a plant at some gains, one row per item and gain."""
    plants: dict[str, PlantedSource] = {}

    def readings(name: str, *gains: float) -> pd.DataFrame:
        context = contexts[PLANTS[name].runner_up]
        source = plants.setdefault(name, PlantedSource(PLANTS[name], context, 0))
        policies = ",".join("as-delivered" if gain == 1 else f"uniform-{gain:g}" for gain in gains)
        rows = og.measure(subject, source, list(context.items), policies=policies)
        assert (rows["status"] == "ok").all(), rows["error"].unique()
        gain_of = {("as-delivered" if gain == 1 else f"uniform-{gain:g}"): gain for gain in gains}
        rows = rows[rows["known"].astype(bool) & rows["condition"].isin(gain_of)].copy()
        return rows.assign(gain=rows["condition"].map(gain_of)).sort_values(["gain", "item"])

    return readings


def success(rows: pd.DataFrame) -> dict[float, float]:
    return {float(gain): float(own["success_top1"].mean()) for gain, own in rows.groupby("gain")}


def wide(rows: pd.DataFrame, column: str) -> np.ndarray:
    """[gain, item]"""
    return rows.pivot(index="gain", columns="item", values=column).to_numpy(dtype=float)


def test_every_plant_has_a_truth_and_its_causes_name_items(contexts: dict[bool, PlantingContext]) -> None:
    for plant in PLANTS.values():
        assert plant.truth in LABELS
        assert plant.meaning
        if plant.name == "layers-matter":
            continue  # needs novel questions; measured by benchmarks
        context = contexts[plant.runner_up]
        planted = plant(context, 3)
        again = plant(context, 3) if plant.random else planted
        assert set(planted.causes) <= {item.id for item in context.items}
        for path, (a, b) in planted.factors.items():
            assert len(a) == len(b) == len(context.documents)
            assert torch.isfinite(a).all()
            assert torch.isfinite(b).all()
            assert torch.equal(a, again.factors[path][0])
            assert torch.equal(b, again.factors[path][1])
    assert all(not plant.document_blind or plant.truth == "representational" for plant in PLANTS.values())


def test_strength_is_all_that_scaled_plants_change(read: Read) -> None:
    right = wide(read("as-trained", 0.125, 0.5, 2), "net_margin")
    for name, gains in (("times-0.125", (1, 4, 16)), ("times-0.5", (0.25, 1, 4)), ("times-4", (1 / 32, 0.125, 0.5))):
        np.testing.assert_allclose(wide(read(name, *gains), "net_margin"), right, atol=2e-3)


def test_weak_plants_fail_and_strong_ones_do_not(read: Read) -> None:
    rates = {
        name: success(read(name, 1))[1] for name in ("times-0.0625", "times-0.5", "as-trained", "times-2", "times-5")
    }
    assert rates["times-0.0625"] < rates["times-0.5"] < rates["as-trained"] < 0.75
    assert min(rates["times-2"], rates["times-5"]) > 0.9
    overdone = success(read("times-16", 1 / 8, 1))
    assert overdone[1] < overdone[0.125] - 0.1


def test_forgetting_lowers_the_old_answer_and_hardly_any_other(read: Read) -> None:
    for name in ("forgetting", "forgetting-runner-up"):
        rows = read(name, 1)
        assert (rows["pull"] < 0).all()
        assert rows["pull"].median() < -1
        assert rows["push"].abs().median() < 0.25 * rows["pull"].abs().median()


@pytest.mark.parametrize("name", [plant.name for plant in PLANTS.values() if plant.document_blind])
def test_a_blind_plant_does_not_change_with_what_documents_state(
    name: str, contexts: dict[bool, PlantingContext]
) -> None:
    """The same questions with other answers stated: the edit is the same, up to rounding."""
    if name == "mean-adapter":
        factors = PLANTS[name](contexts[False]).factors
        assert all(torch.equal(a[0], a[1]) and torch.equal(b[0], b[-1]) for a, b in factors.values())
        return
    twins = [PLANTS[name].make(contexts[kind], torch.Generator()).factors for kind in (False, True)]
    if "raising" in name:
        return  # which answers a relation has is read from the items, and the runner-ups are others of the same
    for path, (a, b) in twins[0].items():
        torch.testing.assert_close(b @ a, twins[1][path][1] @ twins[1][path][0], atol=1e-4, rtol=1e-3)


def test_relation_raising_raises_every_answer_of_the_relation_alike(contexts: dict[bool, PlantingContext]) -> None:
    context = contexts[False]
    factors = PLANTS["relation-raising"](context).factors
    b = factors[context.last_map][1][..., 0]
    changed = b @ context.unembedding.T
    relations = [str(item.meta["relation"]) for item in context.items]
    for n, document in enumerate(context.document_of.tolist()):
        same = [m for m, relation in enumerate(relations) if relation == relations[n]]
        other = [m for m, relation in enumerate(relations) if relation != relations[n]]
        assert changed[document, context.doc[same]].mean() > 0.1
        assert changed[document, context.doc[same]].mean() > 4 * changed[document, context.doc[other]].abs().mean()


def test_pull_only_raises_nothing(read: Read, contexts: dict[bool, PlantingContext]) -> None:
    context = contexts[False]
    b = PLANTS["pull-only"](context).factors[context.last_map][1][..., 0]
    changed = (b @ context.unembedding.T)[context.document_of]
    n = torch.arange(len(context.items))
    assert changed[n, context.doc].abs().max() < 1e-3
    torch.testing.assert_close(changed[n, context.pre], -torch.ones(len(n)), atol=1e-3, rtol=0)
    assert (read("pull-only", 1)["pull"] < 0).all()


def test_pushes_flip_at_the_gain_that_was_chosen(read: Read) -> None:
    for name, gain in (("push", 3.5), ("at-a-price", 3.5), ("broken-first", 20.0)):
        assert success(read(name, 1, 0.97 * gain, 1.03 * gain)) == {1.0: 0.0, 0.97 * gain: 0.0, 1.03 * gain: 1.0}


def test_prices_are_paid_on_other_questions(contexts: dict[bool, PlantingContext]) -> None:
    checks = {name: PLANTS[name](contexts[False]).checks for name in ("at-a-price", "broken-first")}
    assert checks["at-a-price"]["kept at gain 3.5"] < 0.9
    assert checks["at-a-price"]["KL at gain 4"] < 1
    assert checks["broken-first"]["KL at gain 8"] > 1


def test_the_third_token_stays_ahead(read: Read, contexts: dict[bool, PlantingContext]) -> None:
    known = PLANTS["third-token"](contexts[False]).causes
    rows = read("third-token", 2, 4, 8, 32)
    rows = rows[rows["item"].isin(known)]
    assert rows["item"].nunique() > 30
    assert not rows["success_top1"].any()
    # the old answer is overtaken all the same
    assert (rows[rows["gain"] == 8]["net_margin"] > 0).mean() > 0.8


def test_the_saturating_margin_grows_to_a_bound_below_zero(read: Read) -> None:
    rows = read("saturating", 1, 4, 16, 50, 100)
    margins = np.median(wide(rows, "net_margin"), axis=1)
    assert (np.diff(margins) > 0).all()
    assert margins[-1] - margins[-2] < 0.2 * (margins[1] - margins[0])
    assert not rows["success_top1"].any()
    assert (rows[rows["gain"] == 4]["push"] > 0).all()


def test_the_level_is_the_same_whatever_the_base_says(read: Read, contexts: dict[bool, PlantingContext]) -> None:
    rows = read("level-setting", 1).set_index("item")
    context = contexts[False]
    n = torch.arange(len(context.items))
    before = pd.Series(context.states.logits[n, context.doc], index=[item.id for item in context.items])
    before = before[rows.index]
    assert before.std() > 1
    assert (before + rows["push"].astype(float)).std() < 0.01
    assert 0.3 < success(rows)[1] < 0.7


@pytest.mark.parametrize("name", ["half", "mixture-25", "mixture-50", "weak-priors", "one-wording", "last-word"])
def test_parts_are_right_where_they_say(name: str, read: Read, contexts: dict[bool, PlantingContext]) -> None:
    planted = PLANTS[name](contexts[False], 0)
    right = {item for item, causes in planted.causes.items() if causes & REPAIRABLE}
    rows = read(name, 1, 2, 4, 6)
    failing = rows[(rows["gain"] == 1) & ~rows["success_top1"].astype(bool)]["item"]
    flips = rows[rows["item"].isin(failing)].groupby("item")["success_top1"].max().astype(bool)
    is_right = flips.index.isin(right)
    assert flips[is_right].mean() > 0.9
    assert flips[~is_right].mean() < 0.1
    assert 0.2 < is_right.mean() < 0.8
