"""Rows of the table `geometry` against whole matrices, and a hypernetwork that collapsed to its mean against the true one."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import torch

from override_gap.analyses.readings import RunFrame, Table
from override_gap.analyses.stored_geometry import geometry
from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.items.item import Document, Item
from override_gap.margins.updates import LowRank
from override_gap.probes.organism.load import load
from override_gap.probes.organism.plants.catalogue import PLANTS
from override_gap.probes.organism.plants.context import planting_context
from override_gap.probes.organism.plants.items import plant_items
from override_gap.probes.run.document_geometry import affordable, geometry_rows
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.sources.planted import PlantedSource
from override_gap.probes.store.schema import GEOMETRY, READINGS
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny

PLACES = ("self_attn.q_proj", "mlp.down_proj")
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "one")
RELATIONS = ("home", "home", "drink", "drink", None, None)


def unit() -> list[Item]:
    """Six documents: two relations of two, and two whose relation is not known, which share a point with the first."""
    items = []
    for n, (word, relation) in enumerate(zip(WORDS, RELATIONS, strict=True)):
        item = conflict(
            n, f"{word} one", "delta", "two", document=f"{word} .", meta={"relation": relation} if relation else {}
        )
        items.append(dataclasses.replace(item, point="p0") if n == 5 else item)
    # a retention question is of another relation than what the document states
    items.append(Item("r", "p4", "retention", f"{WORDS[4]} .", "six seven", "eight", meta={"relation": "home"}))
    return items


def adapters(subject: Subject) -> dict[str, Adapter]:
    """One per document, of different ranks, with a part that all share."""
    rng = torch.Generator().manual_seed(5)
    shared = random_adapter(subject, rng, PLACES, rank=1).updates
    made = {}
    for n, item in enumerate(unit()[:6]):
        own = random_adapter(subject, rng, PLACES, rank=1 + n % 3)
        made[item.document] = dataclasses.replace(own, shared=shared)
    return made


def whole(adapter: Adapter, layer: int) -> torch.Tensor:
    """All that an adapter adds to a layer's weights, as one vector."""
    total: dict[str, torch.Tensor] = {}
    for path, update in adapter.parts():
        if layer_of(path) == layer:
            total[path] = total.get(path, torch.zeros(())) + update.dense().double()
    return torch.cat([total[path].flatten() for path in sorted(total)])


def test_rows_are_those_of_the_whole_matrices() -> None:
    subject = tiny("llama")
    made = adapters(subject)
    rows: Table = pd.DataFrame(geometry_rows(subject, unit(), EncodedDocuments(made), beside_weights=True))
    GEOMETRY.from_rows(rows.astype(object).where(rows.notna(), None).to_dict("records"))
    # by document: the numbers of those it is compared with, of its relation and of others
    same = {0: [1], 1: [0], 2: [3], 3: [2], 4: [], 5: []}
    other = {0: [2, 3, 4], 1: [2, 3, 4, 5], 2: [0, 1, 4, 5], 3: [0, 1, 4, 5], 4: [0, 1, 2, 3, 5], 5: [1, 2, 3, 4]}
    keys = [Document(text).key for text in made]
    assert len(rows) == 6 * subject.n_layers
    for row in rows.to_dict("records"):
        n = keys.index(row["document"])
        flat = [whole(adapter, row["layer"]) for adapter in made.values()]
        values = torch.linalg.svdvals(torch.stack(flat))
        shares = values / values.sum()
        assert row["effective_rank"] == pytest.approx(float(torch.exp(-(shares * shares.log()).sum())), rel=1e-4)
        assert row["norm_squared"] == pytest.approx(flat[n].square().sum().item(), rel=1e-5)
        for kind, numbers in (("same", same[n]), ("other", other[n])):
            assert row[f"n_{kind}"] == len(numbers)
            if not numbers:
                assert pd.isna(row[f"inner_{kind}"])
                continue
            inner = torch.stack([flat[n] @ flat[m] for m in numbers])
            lengths = torch.stack([flat[n].norm() * flat[m].norm() for m in numbers])
            assert row[f"inner_{kind}"] == pytest.approx(inner.mean().item(), rel=1e-4, abs=1e-6)
            assert row[f"cosine_{kind}"] == pytest.approx((inner / lengths).mean().item(), rel=1e-4, abs=1e-6)
    assert rows["relation"].isna().sum() == 2 * subject.n_layers
    assert (rows["stable_rank"] >= 1 - 1e-9).all()
    assert (rows["looked_at"] == 10 * len(PLACES)).all()
    assert rows["overlap"].between(0, 1).all()


def test_neither_rotated_factors_nor_a_scale_moved_between_them_change_a_row() -> None:
    subject = tiny("llama")
    made = adapters(subject)
    draw = torch.Generator().manual_seed(6)

    def other_factors(update: LowRank) -> LowRank:
        turn = torch.linalg.qr(torch.randn(update.rank, update.rank, generator=draw)).Q
        return LowRank(turn @ update.A * 8.0, update.B @ turn.T, update.scale / 8.0)

    moved = {
        text: dataclasses.replace(
            a, updates={p: other_factors(u) for p, u in a.updates.items() if isinstance(u, LowRank)}
        )
        for text, a in made.items()
    }
    one: Table
    two: Table
    one, two = (
        pd.DataFrame(geometry_rows(subject, unit(), EncodedDocuments(encoded), beside_weights=True)).set_index(
            ["document", "layer"]
        )
        for encoded in (made, moved)
    )
    numbers = one.select_dtypes("number").columns
    assert len(numbers) == 14
    pd.testing.assert_frame_equal(one[numbers], two[numbers], rtol=1e-4, atol=1e-6)


def test_an_adapter_that_does_not_fit_is_left_out_and_the_others_stay_finite() -> None:
    subject = tiny("llama")
    made = adapters(subject)
    broken = list(made)[2]
    path = next(iter(made[broken].updates))
    update = made[broken].updates[path]
    assert isinstance(update, LowRank)
    made[broken] = Adapter("nan", {path: LowRank(update.A * float("nan"), update.B)})
    rows: Table = pd.DataFrame(geometry_rows(subject, unit(), EncodedDocuments(made), beside_weights=False))
    assert Document(broken).key not in set(rows["document"])
    assert rows["norm_squared"].notna().all()
    assert rows["document"].nunique() == 5


def test_large_weights_are_decomposed_for_a_sample_of_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tiny("llama")
    made = list(adapters(subject).values())
    assert affordable(subject, made) == made
    monkeypatch.setattr("override_gap.probes.run.document_geometry.AFFORDABLE", 1.0)
    assert affordable(subject, made) == made[:1]


def test_a_hypernetwork_that_collapsed_to_its_mean_is_named_and_the_true_one_is_not() -> None:
    subject, organism = open_subject("organism"), load()
    items = [i for i in plant_items(organism, splits=("conflict",)) if int(i.point[-2:]) % 3 == 0]
    context = planting_context(organism.hypernetwork, items)
    readings = pd.DataFrame(
        [
            {
                "item": i.id,
                "point": i.point,
                "split": i.split,
                "condition": "base",
                "document": i.document,
                "status": "ok",
            }
            | {"cluster": i.meta["relation"]}
            for i in items
        ]
    ).reindex(columns=READINGS.names)
    found = {}
    for name in ("mean-adapter", "as-trained"):
        source = PlantedSource(PLANTS[name], context, 0)
        documents = [Document(text) for text in context.documents]
        made = {d.text: a for d, a in zip(documents, source.encode(documents), strict=True)}
        rows = geometry_rows(subject, items, EncodedDocuments(made), beside_weights=False)
        found[name] = geometry(RunFrame({}, readings, extra={"geometry": pd.DataFrame(rows)}))
    collapsed, true = found["mean-adapter"], found["as-trained"]
    assert collapsed is not None
    assert true is not None
    assert collapsed["one_adapter"]
    assert collapsed["says"].startswith("one adapter for all documents")
    assert not true["one_adapter"]
    assert true["says"] is None
    assert true["own_share"]["low"] > 0.5
