"""Sets of adapters whose truth is known: one adapter, independent ones, and a common part beside each document's own."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from override_gap.analyses.adapter_geometry import AdapterGeometry, pairs_by_relation


def rows(count: int, width: int, common: float, of_relation: float, own: float, seed: int) -> torch.Tensor:
    """[count, width]: a common part, one per relation (four documents each) and one per document, of these norms."""
    draw = np.random.default_rng(seed)
    unit = draw.normal(size=(1 + count // 4 + count, width))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    relation = np.arange(count) // 4
    whole = common * unit[:1] + of_relation * unit[1 + relation] + own * unit[1 + count // 4 :]
    return torch.from_numpy(whole)


def geometry(found: torch.Tensor, relations: list[str | None] | None = None) -> AdapterGeometry:
    names = [f"r{n // 4}" for n in range(len(found))] if relations is None else relations
    half = found.shape[1] // 2
    layers = {n: part @ part.T for n, part in enumerate((found[:, :half], found[:, half:]))}
    return AdapterGeometry.of(layers, names)


def test_each_documents_own_share_and_its_relations_are_told_apart() -> None:
    found = geometry(rows(40, 6000, common=2.0, of_relation=1.0, own=1.0, seed=0))
    # squared norms 4, 1, 1: documents of different relations share 4, of one relation 5
    assert found.own.value == pytest.approx(1 - 4 / 6, abs=0.02)
    assert found.own.low < found.own.value < found.own.high
    assert found.same_relation == pytest.approx(5 / 6, abs=0.02)
    assert found.other_relation == pytest.approx(4 / 6, abs=0.02)
    assert not found.one_adapter
    assert len(found.layers) == 2
    assert json.loads(json.dumps(found.as_json()))["layers"][1]["layer"] == 1


@pytest.mark.parametrize(("of_relation", "truth"), [(0.0, 1 - 4 / 5), (1.0, 1 - 4 / 6)])
def test_the_interval_holds_the_truth_as_often_as_it_says(of_relation: float, truth: float) -> None:
    inside = 0
    for seed in range(50):
        found = rows(48, 1500, common=2.0, of_relation=of_relation, own=1.0, seed=seed)
        own = geometry(found, None if of_relation else [None] * 48).own
        inside += own.low <= truth <= own.high
    assert inside >= 43


def test_a_method_that_gives_one_adapter_for_all_is_named() -> None:
    nearly = geometry(rows(24, 4000, common=3.0, of_relation=0.0, own=0.3, seed=1))
    assert nearly.one_adapter
    assert "share one adapter" in str(nearly)
    assert nearly.effective_rank < 12
    apart = geometry(rows(24, 4000, common=0.0, of_relation=0.0, own=1.0, seed=1))
    assert apart.own.value == pytest.approx(1.0, abs=0.02)
    assert apart.effective_rank > 23.5


def test_documents_without_a_relation_are_in_no_pair_by_relation() -> None:
    same, other = pairs_by_relation(["a", None, "a", "b", None])
    assert same.int().tolist() == [[1, 0, 1, 0, 0], [0] * 5, [1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5]
    assert other.int().tolist() == [[0, 0, 0, 1, 0], [0] * 5, [0, 0, 0, 1, 0], [1, 0, 1, 0, 0], [0] * 5]
    alone = geometry(rows(8, 100, 1.0, 0.0, 1.0, 2), [None] * 8)
    assert math.isnan(alone.same_relation)
    assert alone.as_json()["same_relation"] is None
    with pytest.raises(ValueError, match="two documents"):
        geometry(rows(4, 100, 1.0, 0.0, 1.0, 2)[:1], ["a"])
