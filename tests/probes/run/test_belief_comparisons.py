"""Questions of belief leave alone what other items are compared with: partners, mean adapters, unrelated questions, answers."""

from __future__ import annotations

import random
from dataclasses import replace

from override_gap.margins.items.item import BELIEF, Item
from override_gap.margins.items.item_set import ItemSet
from override_gap.margins.items.null_documents import NullDocuments
from override_gap.probes.items import open_items
from override_gap.probes.run.comparisons import Comparisons


def some() -> list[Item]:
    """The questions about the first eight facts of each tier: capitals, most of them, and so of one relation."""
    return [item for item in open_items("belief") if item.point.rpartition("-")[2] <= "08"]


def shuffled(items: list[Item]) -> list[Item]:
    return random.Random(0).sample(items, len(items))


def test_other_items_keep_their_partners_and_comparisons() -> None:
    every = some()
    own = [item for item in every if item.split not in BELIEF]
    alone, beside = NullDocuments.of(ItemSet.of(own)), NullDocuments.of(ItemSet.of(shuffled(every)))
    assert {id: d.text for id, d in alone.partners.items()} == {
        item.id: beside.partners[item.id].text for item in own if item.id in beside.partners
    }
    assert [d.text for half in alone.halves for d in half] == [d.text for half in beside.halves for d in half]
    assert all(beside.mean_half[item.document] in (0, 1) for item in every)
    one, other = Comparisons.of(ItemSet.of(own), seed=1), Comparisons.of(ItemSet.of(every), seed=1)
    assert [item.id for item in one.others] == [item.id for item in other.others]
    assert [item.id for item in one.unrelated] == [item.id for item in other.unrelated]


def test_a_yes_or_no_question_has_the_partner_of_what_its_document_states() -> None:
    every = some()
    nulls = NullDocuments.of(ItemSet.of(every))
    first = {item.document: item for item in reversed(every) if item.split == "conflict"}
    negated = [item for item in every if item.split == "negated" and item.answer in ("Yes", "No")]
    same = [nulls.partners[item.id].text == nulls.partners[first[item.document].id].text for item in negated]
    assert len(same) == 48
    assert all(same)


def test_a_set_of_such_questions_alone_has_partners() -> None:
    items = [replace(item) for item in open_items("belief") if item.split == "agreement"]
    nulls = NullDocuments.of(ItemSet.of(items))
    assert len(nulls.partners) == len(items)
    assert all(nulls.partners[item.id].text != item.document for item in items)
