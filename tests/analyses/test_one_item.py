"""One item by gain, by dose and by layer: what stands where, on hand-made tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.one_item import ItemMechanisms, median_item, one_item
from override_gap.analyses.readings import RunFrame
from override_gap.probes.store.schema import LAYERS, READINGS, SEARCH

CONDITIONS = {"base": 0.0, "as-delivered": 1.0, "uniform-2": 2.0, "slb": None}


def reading(item: str, condition: str, net: float, prior: float = 5.0, *, known: bool = True) -> dict:
    return {
        "item": item, "point": item, "split": "conflict", "condition": condition, "known": known, "prior_logprob": -0.1,
        "prior_margin": prior, "push": 0.0, "pull": -net - prior, "adapter_margin": net + prior, "net_margin": net,
        "success_margin": net > 0, "success_top1": net > 0, "status": "ok", "error": None, "question": f"asks {item}",
        "answer": "new", "prior_answer": "old",
    }  # fmt: skip


def run(
    nets: dict[str, float], doses: dict[str, list[tuple[float, float]]] | None = None, path: bool = False
) -> RunFrame:
    rows = [
        reading(item, condition, -5.0 if gain == 0 else net * (gain or 1.0))
        for item, net in nets.items()
        for condition, gain in CONDITIONS.items()
    ]
    layers = [
        {"item": item, "split": "conflict", "condition": condition, "layer": layer, "attribution": share,
         "path": 1.5 if path and condition == "as-delivered" and layer >= 0 else None}
        for item in nets
        for condition, shares in (("base", (1.0, 4.0)), ("as-delivered", (0.75, 2.25)))
        for layer, share in zip((-1, 0), shares, strict=True)
    ]  # fmt: skip
    search = [
        {"item": item, "point": item, "split": "conflict", "condition": condition, "gain": gain, "net_margin": net,
         "success_top1": True, "kl": 0.1, "kept": 1.0, "broken": False}
        for item in nets
        for condition, gain, net in (("as-delivered", 4.0, 3.0), ("as-delivered", 8.0, None), ("null-other", 3.0, 9.0))
    ]  # fmt: skip
    table = [
        {"item": item, "point": item, "split": "conflict", "arm": arm, "dose": moved, "reached": reached, "moved": moved,
         "condition": condition, "prior_margin": 5.0 + moved, "net_margin": net, "success_top1": net > 0}
        for item, readings in (doses or {}).items()
        for moved, net in readings
        for arm, condition, reached in (
            ("own", "as-delivered", moved < 8), ("own", "base", True), ("placebo", "as-delivered", True))
    ]  # fmt: skip
    return RunFrame(
        {"conditions": list(CONDITIONS)},
        pd.DataFrame(rows).reindex(columns=READINGS.names),
        pd.DataFrame(layers).reindex(columns=LAYERS.names),
        search=pd.DataFrame(search).reindex(columns=SEARCH.names),
        extra={"prior_dose": pd.DataFrame(table)} if table else {},
    )


def test_gains_come_from_conditions_and_search_doses_from_reached_own_updates_alone() -> None:
    item = ItemMechanisms(run({"a": -1.0}, {"a": [(4.0, -3.0), (-4.0, 1.0), (8.0, -9.0)]}), ["a"]).of("a")
    assert item is not None
    assert [(row.at, row.net_margin, row.first) for row in item.gains] == [
        (0.0, -5.0, False), (1.0, -1.0, False), (2.0, -2.0, False), (4.0, 3.0, True),
    ]  # fmt: skip
    assert [(row.at, row.net_margin, row.base_margin) for row in item.doses] == [(-4.0, 1.0, 1.0), (4.0, -3.0, 9.0)]
    assert (item.prior_margin, item.adapter_margin) == (5.0, 4.0)


def test_layers_are_shares_of_the_path_where_it_was_read_else_changes_of_attribution() -> None:
    plain, path = (ItemMechanisms(run({"a": -1.0}, path=path), ["a"]).of("a") for path in (False, True))
    assert plain is not None
    assert path is not None
    assert (plain.by, [(row.layer, row.share) for row in plain.shares]) == ("attribution", [(-1, 0.25), (0, 1.75)])
    assert (path.by, [(row.layer, row.share) for row in path.shares]) == ("path", [(0, 1.5)])


def test_the_item_shown_is_the_failing_one_of_median_margin_with_most_doses() -> None:
    nets = {"a": -4.0, "b": -3.0, "c": -1.0, "d": 2.0}
    shown = one_item(run(nets))
    assert shown is not None
    assert shown.item == "b"
    dosed = one_item(run(nets, {"c": [(2.0, -2.0)], "d": [(2.0, 1.0)]}))
    assert dosed is not None
    assert dosed.item == "c"
    none_fails = one_item(run({"d": 2.0, "e": 3.0}))
    assert none_fails is not None
    assert none_fails.item == "d"
    assert one_item(RunFrame({}, run(nets).readings.assign(known=False))) is None
    assert ItemMechanisms(run(nets), ["absent"]).of("absent") is None


def test_its_section_holds_plain_numbers_and_it_shows_itself_as_a_table() -> None:
    item = one_item(run({"a": -1.0}, {"a": [(4.0, -3.0)]}))
    assert item is not None
    section = item.as_json()
    assert section["doses"] == [{"at": 4.0, "net_margin": -3.0, "first": False, "base_margin": 9.0}]
    assert len(item.frame()) == len(section["gains"]) + len(section["doses"]) + len(section["shares"]) == 4 + 1 + 2


@pytest.mark.parametrize(("numbers", "name"), [((3.0, 1.0, 2.0), "z"), ((1.0, 1.0), "x"), ((4.0, 1.0, 3.0, 2.0), "w")])
def test_the_middle_of_an_even_number_is_the_lower_one(numbers: tuple[float, ...], name: str) -> None:
    assert median_item(list("xyzw")[: len(numbers)], np.array(numbers)) == name
