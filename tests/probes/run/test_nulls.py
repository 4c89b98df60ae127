"""Null conditions: the readings are those of a model whose weights were changed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import torch

import override_gap as og
from override_gap.margins.adapter import Adapter, AdapterSource
from override_gap.margins.items.item import Document, Item
from override_gap.margins.null_adapters import random_like
from override_gap.margins.runtime import NO_UPDATE, ONE_ADAPTER
from override_gap.margins.updates import LowRank
from override_gap.probes.attach import stack as stacking
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import Shared, stack
from override_gap.probes.plan import Plan
from override_gap.probes.run import units
from override_gap.probes.run.loop import run
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.remote import store_at
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny

NULLS = "null-other,null-mean,null-random"
WORDS = "alpha beta gamma delta epsilon zeta eta theta".split()
ANSWERS = [("red", "blue"), ("one", "two"), ("three", "four"), ("five", "six"), ("seven", "eight")]
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", *answers) for n, answers in enumerate(ANSWERS)]
#: Asks about the first item's document once more.
SECOND = Item("c9", "p0", "conflict", ITEMS[0].document, "theta", "red", "blue")
PLAN = Plan("tiny", "fitted", "own", NULLS, ("margins", "answers"), answers=2)


def source(subject: Subject) -> FittedAdapters:
    return FittedAdapters(subject, steps=5, lr=3e-2)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> pd.DataFrame:
    subject, out = tiny("llama"), tmp_path_factory.mktemp("runs") / "run"
    run(PLAN, subject, source(subject), [*ITEMS, SECOND], out)
    return pd.read_parquet(out / "readings").set_index(["item", "condition"])


def margin(adapters: Sequence[Adapter], item: Item, share: float = 1.0) -> float:
    """f(y_pre) - f(y_doc) of a model to whose weights so much of each adapter is added, through the model's own head."""
    subject = tiny("llama")
    modules = {n.replace("_original_component.", ""): m for n, m in subject.model.named_modules()}
    for adapter in adapters:
        for path, update in adapter.parts():
            modules[path].weight.data += share * update.dense()
    with torch.no_grad():
        z = subject.model(input_ids=torch.tensor([subject.tokenize(item.question)])).logits[0, -1]
    vocab = subject.tokenizer.get_vocab()
    return float(z[vocab[item.prior_answer]] - z[vocab[item.answer]])


@pytest.fixture(scope="module")
def adapters() -> dict[str, Adapter]:
    """Each item's own document's adapter, made alone."""
    return {item.id: source(tiny("llama")).encode([Document(item.document)])[0] for item in ITEMS}


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)
def test_null_other_is_the_model_edited_by_one_other_document(measured, adapters, item: Item) -> None:
    read = -measured.loc[(item.id, "null-other"), "net_margin"]
    found = [name for name, adapter in adapters.items() if abs(margin([adapter], item) - read) < 1e-3]
    assert len(found) == 1
    assert found != [item.id]


def test_null_mean_is_the_model_edited_by_the_mean_of_documents_without_the_items_own(measured, adapters) -> None:
    means = {}
    for item in [*ITEMS, SECOND]:
        read = -measured.loc[(item.id, "null-mean"), "net_margin"]
        subsets = [c for size in range(1, 6) for c in combinations(adapters, size)]
        near = [c for c in subsets if abs(margin([adapters[n] for n in c], item, 1 / len(c)) - read) < 1e-4]
        assert len(near) == 1
        means[item.id] = set(near[0])
        assert f"c{item.point[1:]}" not in means[item.id], "an item's own document is not in its mean"
    assert means["c0"] == means["c9"]
    halves = {frozenset(half) for half in means.values()}
    assert len(halves) == 2
    assert frozenset.union(*halves) == set(adapters)


@pytest.mark.parametrize("item", ITEMS[:2], ids=lambda item: item.id)
def test_null_random_is_the_model_edited_by_a_direction_of_equal_norm(measured, adapters, item: Item) -> None:
    rows = measured.loc[item.id]
    expected = margin([random_like(adapters[item.id], item.document, 0)], item)
    assert rows.loc["null-random", "net_margin"] == pytest.approx(-expected, abs=1e-3)
    assert rows.loc["null-random", "adapter_norm"] == pytest.approx(rows.loc["as-delivered", "adapter_norm"], rel=1e-4)


def test_null_conditions_are_answered_in_words_and_have_no_layers(measured: pd.DataFrame) -> None:
    answered = measured[measured.answer_text.notna()].reset_index()
    assert set(answered.condition) == {"base", "as-delivered", *NULLS.split(",")}
    assert measured.loc[("c0", "null-random"), "gain_mean"] == 1


@pytest.mark.parametrize("per_unit", [1, 3])
def test_how_units_are_split_changes_nothing(measured, tmp_path: Path, monkeypatch, per_unit: int) -> None:
    monkeypatch.setattr(units, "DOCUMENTS_PER_UNIT", per_unit)
    subject = tiny("llama")
    run(PLAN, subject, source(subject), [*ITEMS, SECOND], tmp_path / "run")
    rows = pd.read_parquet(tmp_path / "run" / "readings").set_index(["item", "condition"])
    assert (rows.net_margin - measured.net_margin).abs().max() < 1e-3
    assert store_at(tmp_path / "run").manifest()["nulls"] == {
        "partners_of_relation": 0,
        "partners_of_another": 6,
        "without_partner": 0,
        "mean_documents": [3, 2],
    }


def test_an_item_without_a_partner_is_refused_the_condition_with_the_reason() -> None:
    subject = tiny("llama")
    rows = og.measure(subject, source(subject), ITEMS[:1], policies=NULLS).set_index("condition")
    assert rows.loc["null-other", "status"] == "refused", "an audit of one document is complete"
    assert rows.loc["null-other", "error"] == (
        "no other document to compare with: none of 0 other documents is about another knowledge point and answer"
    )
    assert rows.loc["null-mean", "error"] == "no document about another knowledge point to take the mean of"
    assert rows.loc["null-random", "status"] == "ok"
    assert pd.isna(rows.loc["null-other", "net_margin"])


class Failing(FittedAdapters):
    """Fails on one document."""

    def encode(self, documents):
        if any("zeta" in d.text for d in documents):
            raise ValueError("no zeta")
        return super().encode(documents)


def test_a_partner_whose_adapter_cannot_be_made_is_an_error_row_and_no_part_of_the_mean() -> None:
    subject = tiny("llama")
    rows = og.measure(subject, Failing(subject, steps=2), ITEMS, policies=NULLS)
    broken = rows[rows.condition.eq("null-other") & rows.status.eq("error")]
    own = {item.id for item in ITEMS if "zeta" in item.document}
    assert set(broken["item"]) > own, "an item's own document, and one whose partner it is"
    assert all("no zeta" in error for error in broken.error)
    assert rows[rows.condition.eq("null-mean") & ~rows.item.isin(own)].status.eq("ok").all()


class OneForAll(FittedAdapters):
    """One adapter for every document."""

    scope = "nothing"


@pytest.mark.parametrize("fault", [0.0, float("nan")])
def test_a_partner_whose_adapter_cannot_act_costs_the_item_that_comparison_alone(measured, fault: float) -> None:
    """The broken document's own item is an error everywhere; all others read what they read without the fault."""

    class OneBroken:
        name, settings = "fitted", {}

        def __init__(self, subject: Subject) -> None:
            self.made = source(subject)

        def encode(self, documents: Sequence[Document]) -> list[Adapter]:
            adapters = self.made.encode(documents)
            return [
                Adapter(a.name, {path: LowRank(u.A, u.B * fault) for path, u in a.parts() if isinstance(u, LowRank)})
                if document.text == ITEMS[1].document
                else a
                for document, a in zip(documents, adapters, strict=True)
            ]

    subject = tiny("llama")
    rows = og.measure(subject, OneBroken(subject), ITEMS, policies="null-other").set_index(["item", "condition"])
    statuses = rows["status"].unstack()
    assert (statuses.loc[ITEMS[1].id] == "error").all()
    others = statuses.drop(ITEMS[1].id)
    assert (others[["base", "as-delivered"]] == "ok").all().all()
    assert (others["null-other"] == "error").sum() == 1
    for item in ITEMS:
        for name in ("base", "as-delivered"):
            if item.id != ITEMS[1].id:
                assert rows.loc[(item.id, name), "net_margin"] == pytest.approx(
                    measured.loc[(item.id, name), "net_margin"]
                )


def test_a_source_with_one_adapter_for_all_is_refused_the_comparison(tmp_path: Path) -> None:
    subject = tiny("llama")
    one: AdapterSource = OneForAll(subject, steps=2)
    run(PLAN, subject, one, ITEMS, tmp_path / "run")
    refused = store_at(tmp_path / "run").manifest()["refused"]
    assert refused == [{"condition": name, "reason": ONE_ADAPTER} for name in ("null-other", "null-mean")]
    rows = pd.read_parquet(tmp_path / "run" / "readings")
    assert rows["condition"].drop_duplicates().tolist() == [
        "base",
        "as-delivered",
        "null-random",
    ]


def test_another_documents_prefix_can_be_read_and_the_other_two_are_refused(tmp_path: Path) -> None:
    subject = tiny("llama")
    layers, heads = subject.n_layers, subject.model.config.num_key_value_heads
    width = subject.model.config.hidden_size // subject.model.config.num_attention_heads

    class Own:
        name, settings, static = "prefixes", {}, False

        def encode(self, documents):
            made = []
            for document in documents:
                rng = torch.Generator().manual_seed(int(document.key[:6], 16))
                drawn = [torch.randn(heads, 3, width, generator=rng) for _ in range(2 * layers)]
                made.append(og.margins.Prefix(document.key, drawn[:layers], drawn[layers:]))
            return made

    run(PLAN, subject, Own(), ITEMS, tmp_path / "run")
    rows = pd.read_parquet(tmp_path / "run" / "readings").set_index(["item", "condition"])
    refused = store_at(tmp_path / "run").manifest()["refused"]
    assert {"condition": "null-mean", "reason": NO_UPDATE} in refused
    assert {"condition": "null-random", "reason": NO_UPDATE} in refused
    delivered, other = (rows.xs(name, level="condition").net_margin for name in ("as-delivered", "null-other"))
    assert (delivered - other).abs().min() > 1e-3
    items = [
        Item(f"x{n}", item.point, "conflict", ITEMS[n - 1].document, item.question, item.answer, item.prior_answer)
        for n, item in enumerate(ITEMS)
    ]
    crossed = og.measure(subject, Own(), items).set_index(["item", "condition"]).net_margin
    matches = [abs(crossed[(f"x{n}", "as-delivered")] - other[f"c{n}"]) < 1e-4 for n in range(5)]
    assert any(matches), "some item's partner is the document before it"


def test_examples_with_one_large_update_hold_it_once(rng: torch.Generator, monkeypatch) -> None:
    subject = tiny("llama")
    large = [random_adapter(subject, rng, ("down_proj", "q_proj"), rank=40, size=0.02) for _ in range(2)]
    large[1] = Adapter("whole", {p: og.margins.Dense(u.dense()) for p, u in large[1].updates.items()})
    order = [large[0], large[1], large[0], large[0], large[1]]
    ids = torch.randint(5, 20, (5, 7), generator=rng)
    gains = torch.rand(5, subject.n_layers, generator=rng) * 2

    def logits() -> torch.Tensor:
        together = stack(subject, order)
        kinds.append({type(update) for update in together.sites.values()})
        with attached(subject, together, gains), torch.no_grad():
            return subject.model(input_ids=ids).logits

    kinds: list[set[type]] = []
    shared = logits()
    monkeypatch.setattr(stacking, "_is_large", lambda update: False)
    torch.testing.assert_close(shared, logits(), rtol=1e-4, atol=1e-4)
    assert kinds[0] == {Shared}
    assert Shared not in kinds[1]
    some = stack(subject, order).only([3, 1])
    assert some.size == 2
    assert all(isinstance(update, LowRank) for update in large[0].updates.values())


def known(item: Item) -> Item:
    """The item with the base's own first token as its old answer."""
    subject = tiny("llama")
    with torch.no_grad():
        top = subject.model(input_ids=torch.tensor([subject.tokenize(item.question)])).logits[0, -1].argmax()
    return replace(item, prior_answer=subject.tokenizer.decode([int(top)]).strip())


def test_failing_conflicts_are_searched_under_the_nulls_as_under_their_own_adapter(tmp_path: Path, adapters) -> None:
    subject = tiny("llama")
    items = [known(item) for item in ITEMS]
    run(replace(PLAN, probes=("margins", "search"), answers=0), subject, source(subject), items, tmp_path / "run")
    rows = pd.read_parquet(tmp_path / "run" / "readings").set_index(["item", "condition"])
    search = pd.read_parquet(tmp_path / "run" / "search")
    delivered = rows.xs("as-delivered", level="condition")
    failing = set(delivered.index[delivered["known"].eq(True) & ~delivered["success_top1"].astype(bool)])
    assert failing
    read = search[search["push"].notna()]
    assert {name: set(part["item"]) for name, part in read.groupby("condition")} == dict.fromkeys(
        ["as-delivered", *NULLS.split(",")], failing
    )
    for row in read[read["gain"] == 1].itertuples():
        assert row.net_margin == pytest.approx(rows.loc[(row.item, row.condition), "net_margin"], abs=1e-4)
    by_id = {item.id: item for item in items}
    drawn = read[read["condition"] == "null-random"].groupby("item").tail(2)
    for row in drawn.itertuples():
        item = by_id[str(row.item)]
        at_gain = margin([random_like(adapters[item.id], item.document, 0)], item, float(row.gain))
        assert row.net_margin == pytest.approx(-at_gain, abs=2e-3)
    for item, part in read[read["condition"] == "null-other"].groupby("item"):
        last = part.iloc[-1]
        merged = [
            margin([adapter], by_id[str(item)], last["gain"]) for name, adapter in adapters.items() if name != item
        ]
        assert min(abs(last["net_margin"] + value) for value in merged) < 2e-3
    ended = search[search["condition"] != "as-delivered"].groupby(["item", "condition"])
    beyond = ended.apply(lambda part: part["broken"].any() or part["success_top1"].any() or part["gain"].max() == 4096)
    assert beyond.all(), "a null is searched until its answer comes first or its own adapter breaks the model"


def test_an_adapter_that_is_not_finite_is_left_out_of_the_mean(tmp_path: Path) -> None:
    """One broken adapter of five: its own rows are errors, the means are of the others, and the manifest says so."""
    broken = ITEMS[1].document

    class Broken:
        name, settings = "broken", {}

        def __init__(self, subject: Subject) -> None:
            self.made = source(subject)

        def encode(self, documents):
            return [
                Adapter(a.name, {p: LowRank(u.A, float("nan") * u.B, u.scale) for p, u in a.updates.items()})
                if document.text == broken
                else a
                for document, a in zip(documents, self.made.encode(documents), strict=True)
            ]

    subject = tiny("llama")
    run(replace(PLAN, policies="null-mean", probes=("margins",)), subject, Broken(subject), ITEMS, tmp_path / "run")
    rows = pd.read_parquet(tmp_path / "run" / "readings").set_index(["item", "condition"])
    manifest = store_at(tmp_path / "run").manifest()["nulls"]
    assert sorted(manifest["mean_left_out"]) == [0, 1]
    assert sum(manifest["mean_documents"]) == len(ITEMS) - 1
    for item in ITEMS:
        if item.document != broken:
            assert rows.loc[(item.id, "null-mean"), "status"] == "ok"
            made = [
                source(tiny("llama")).encode([Document(i.document)])[0]
                for i in ITEMS
                if i.document not in (broken, item.document)
            ]
            halves = [c for n in range(1, 4) for c in combinations(made, n)]
            read = -rows.loc[(item.id, "null-mean"), "net_margin"]
            assert any(abs(margin(half, item, 1 / len(half)) - read) < 1e-3 for half in halves)
    assert set(rows.loc[ITEMS[1].id, "status"].drop("base")) == {"error"}
