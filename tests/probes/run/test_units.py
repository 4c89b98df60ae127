"""How a run is cut into units: sizes, and in large sets that an item's partner is mostly in its unit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from override_gap.margins.items.item_set import ItemSet
from override_gap.margins.items.null_documents import NullDocuments
from override_gap.probes.run.units import MOST_SAMPLED, answered_in_words, split_into_units
from tests.conftest import conflict


def test_units_are_of_like_size_and_hold_every_item_once() -> None:
    many = [conflict(n, f"question {n}") for n in range(67)]
    units = split_into_units(ItemSet.of(many), "identity", 0)
    assert [len(unit.documents) for unit in units] == [23, 23, 21]
    assert sorted(item.id for unit in units for item in unit.items) == sorted(item.id for item in many)
    assert split_into_units(ItemSet.of([]), "identity", 0) == []


def in_relations(count: int) -> ItemSet:
    """So many conflicts, each on a document and a point of its own, five relations in turn."""
    items = (conflict(n, f"question {n}") for n in range(count))
    return ItemSet.of(
        [
            replace(i, answer=f"word{n}", document=f"Text {n}: word{n}.", meta={"relation": f"r{n % 5}"})
            for n, i in enumerate(items)
        ]
    )


@pytest.mark.parametrize("partners", [True, False])
def test_a_large_set_is_cut_so_that_partners_are_in_the_same_unit(partners: bool) -> None:
    items = in_relations(MOST_SAMPLED + 176)
    nulls = NullDocuments.of(items)
    units = split_into_units(items, "identity", 0, partners=partners)
    elsewhere = 0
    for unit in units:
        own = {document.text for document in unit.documents}
        elsewhere += len({nulls.partners[item.id].text for item in unit.items} - own)
    assert sorted(item.id for unit in units for item in unit.items) == sorted(item.id for item in items.items)
    assert max(len(unit.documents) for unit in units) <= 32
    # without the cut nearly every partner lies elsewhere; with it at most the last documents of each group point outside
    share = elsewhere / len(items.documents)
    assert share <= 0.1 if partners else share > 0.9


def test_answers_of_a_large_set_are_drawn_from_all_units() -> None:
    items = in_relations(MOST_SAMPLED + 176)
    units = split_into_units(items, "identity", 0, partners=True)
    drawn = answered_in_words(units, 40, 0)
    relations = Counter(item.meta["relation"] for item in items.items if item.id in drawn)
    assert len(drawn) == 40
    assert set(relations) == {f"r{n}" for n in range(5)}
    assert sum(bool(drawn & {item.id for item in unit.items}) for unit in units) > 20
    few = split_into_units(in_relations(70), "identity", 0, partners=True)
    assert answered_in_words(few, 5, 0) == {item.id for item in few[0].items[:5]}
