"""Conditions made of other documents: against edited weights, against adapters made by hand, against the prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.conditions import reword
from override_gap.margins.items.item import Document, Item, documents_of
from override_gap.margins.updates import LowRank
from override_gap.probes.errors import AdapterError
from override_gap.probes.plan import Plan
from override_gap.probes.readings.adapted import fill_prompt
from override_gap.probes.run.distractor_documents import Distractors
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.loop import run
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.sources.peft_folder import PeftFolder
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny

WORDS = "alpha beta gamma delta epsilon zeta eta theta".split()
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue") for n in range(4)]
SECOND = Item("c9", "p0", "conflict", "one two red .", "one two", "red", "blue")
POLICIES = "as-delivered,joined-mean-2,combined"
PLAN = Plan("tiny", "fitted", "own", POLICIES, ("margins", "joined", "hedged", "stated", "contested"))


def source(subject: Subject) -> FittedAdapters:
    return FittedAdapters(subject, steps=5, lr=3e-2)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> pd.DataFrame:
    subject, out = tiny("llama"), tmp_path_factory.mktemp("runs") / "run"
    run(PLAN, subject, source(subject), [*ITEMS, SECOND], out)
    return pd.read_parquet(out / "readings").set_index(["item", "condition"])


def margin(subject: Subject, text: str) -> float:
    """f(y_pre) - f(y_doc) after a text, through the model's own head."""
    with torch.no_grad():
        z = subject.model(input_ids=torch.tensor([subject.tokenize(text)])).logits[0, -1]
    vocab = subject.tokenizer.get_vocab()
    return float(z[vocab["blue"]] - z[vocab["red"]])


def edited(texts: list[str]) -> Subject:
    """A model whose weights carry the sum of the updates of some texts, each fitted alone."""
    subject = tiny("llama")
    adapters = [source(subject).encode([Document(text)])[0] for text in texts]
    modules = dict(subject.model.named_modules())
    for adapter in adapters:
        for path, update in adapter.updates.items():
            weight = next(m for name, m in modules.items() if name.replace("_original_component.", "") == path).weight
            weight.data += update.dense()
    return subject


def test_a_joined_adapter_equals_weights_edited_by_the_sum(measured: pd.DataFrame) -> None:
    texts = [item.document for item in [*ITEMS, SECOND]]
    unit = Distractors.of([*ITEMS, SECOND], EncodedDocuments({}))
    row = measured.loc[("c1", "joined-2")]
    found = [
        other
        for other in texts
        if other != ITEMS[1].document
        and abs(margin(edited([ITEMS[1].document, other]), ITEMS[1].question) + row.net_margin) < 1e-3
    ]
    assert len(found) == 1, "exactly one other document's update must explain the joined reading"
    assert unit.points[found[0]].isdisjoint({"p1"})


def by_hand(deltas: dict[str, torch.Tensor]) -> Subject:
    """A model whose weights carry the given matrices, by the unwrapped model's paths."""
    subject = tiny("llama")
    modules = dict(subject.model.named_modules())
    for path, delta in deltas.items():
        next(m for name, m in modules.items() if name.replace("_original_component.", "") == path).weight.data += delta
    return subject


def test_averaged_factors_equal_weights_edited_by_the_product_of_the_means(measured: pd.DataFrame) -> None:
    item, row = ITEMS[1], measured.loc[("c1", "joined-mean-2")]
    others = [other.document for other in [*ITEMS, SECOND] if other is not item]
    gaps = {"factors": [], "updates": []}
    for other in others:
        one, two = (source(tiny("llama")).encode([Document(text)])[0].updates for text in (item.document, other))
        factors = {p: one[p].scale * (one[p].B + two[p].B) / 2 @ ((one[p].A + two[p].A) / 2) for p in one}
        updates = {p: (one[p].dense() + two[p].dense()) / 2 for p in one}
        for kind, deltas in (("factors", factors), ("updates", updates)):
            gaps[kind].append(abs(margin(by_hand(deltas), item.question) + row.net_margin))
    assert min(gaps["factors"]) < 1e-4, "the other document's is one of these"
    assert min(gaps["updates"]) > 1e-3, "the mean of the updates is another adapter"


def test_combined_is_the_prompt_read_by_merged_weights(measured: pd.DataFrame) -> None:
    item, row = ITEMS[2], measured.loc[("c2", "combined")]
    text = f"{item.document}\n{item.question}"
    assert -margin(edited([item.document]), text) == pytest.approx(row.net_margin, abs=1e-4)
    assert -margin(tiny("llama"), text) == pytest.approx(measured.loc[("c2", "in-context"), "net_margin"], abs=1e-4)
    assert abs(row.net_margin - measured.loc[("c2", "in-context"), "net_margin"]) > 1e-2, "the adapter acts"
    assert row.gain_mean == 1


def test_adapters_whose_factors_have_no_mean_are_rows_with_the_reason(tmp_path: Path) -> None:
    class Ranks:
        name, settings = "ranks", {}

        def __init__(self, subject: Subject) -> None:
            self.made = FittedAdapters(subject, steps=1)

        def encode(self, documents):
            return [Adapter(a.name, self.ranked(n, a.updates)) for n, a in enumerate(self.made.encode(documents))]

        def ranked(self, rank: int, updates):
            return {p: LowRank(u.A[: rank + 1], u.B[:, : rank + 1], u.scale) for p, u in updates.items()}

    subject = tiny("llama")
    run(replace(PLAN, probes=("margins",)), subject, Ranks(subject), ITEMS, tmp_path / "run")
    rows = pd.read_parquet(tmp_path / "run" / "readings").set_index("condition")
    assert set(rows.loc["joined-mean-2", "status"]) == {"error"}
    assert rows.loc["joined-mean-2", "error"].str.contains("where ranks and scales are equal").all()
    assert set(rows.loc["combined", "status"]) == {"ok"}


def test_documents_of_the_same_point_are_not_joined(measured: pd.DataFrame) -> None:
    row = measured.loc[("c0", "joined-4")]
    assert row.status == "ok", "three documents of other points are there for c0"
    alone = measured.loc[("c1", "joined-8")]
    assert alone.status == "error"
    assert "8 documents about different knowledge points are needed" in alone.error


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        ("hedged", "It is rumoured that {}"),
        ("negated", "It is not true that {}"),
        ("stated-3", "{0} {0} {0}"),
    ],
)
def test_a_retold_document_gives_the_adapter_of_its_text(measured: pd.DataFrame, condition: str, text: str) -> None:
    subject = edited([text.format(ITEMS[2].document)])
    assert -margin(subject, ITEMS[2].question) == pytest.approx(measured.loc[("c2", condition), "net_margin"], abs=1e-3)
    assert measured.loc[("c2", condition), "net_margin"] != measured.loc[("c2", "as-delivered"), "net_margin"]


@pytest.mark.parametrize(
    ("folders", "probe", "message"),
    [
        ([item.id for item in ITEMS], "hedged", "nothing for document 'It is "),
        ([item.point for item in ITEMS], "stated", "nothing for document"),
        ([""], "hedged", "one adapter serves every document, so none can be made for hedged"),
        ([""], "joined", "one adapter serves every document, so none can be made for joined-2"),
    ],
)
def test_a_files_adapter_is_never_taken_for_that_of_another_text(
    folders: list[str], probe: str, message: str, tmp_path: Path
) -> None:
    """Filed under an item's id or point it is of the document as it stands, not of its denial."""
    subject = tiny("llama")
    for folder, adapter in zip(folders, source(subject).encode(documents_of(ITEMS)), strict=False):
        write_adapter(adapter, tmp_path / "adapters" / folder)
    made = PeftFolder(subject, tmp_path / "adapters")
    plan = replace(PLAN, policies="as-delivered", probes=("margins", probe))
    with pytest.raises(AdapterError, match=message):
        run(plan, subject, made, ITEMS, tmp_path / "run")


def test_documents_in_one_prompt_are_read_behind_all_of_them(measured: pd.DataFrame) -> None:
    subject, item = tiny("llama"), ITEMS[1]
    row = measured.loc[("c1", "in-context-joined-2")]
    others = [i.document for i in [*ITEMS, SECOND] if i is not item]
    orders = [pair for other in others for pair in ((item.document, other), (other, item.document))]
    found = [p for p in orders if abs(margin(subject, "\n".join([*p, item.question])) + row.net_margin) < 1e-4]
    assert len(found) == 1


def test_a_contested_answer_is_read_behind_both_turns_with_the_adapter_acting(measured: pd.DataFrame) -> None:
    item, row = ITEMS[2], measured.loc[("c2", "contested")]
    text = f"{item.question} red. No, that is wrong: it is blue. {item.question}"
    assert -margin(edited([item.document]), text) == pytest.approx(row.net_margin, abs=1e-3)
    assert abs(-margin(tiny("llama"), text) - row.net_margin) > 1e-2, "without the adapter it reads otherwise"
    assert row.gain_mean == 1
    control = measured.loc[("c2", "contested-base")]
    assert -margin(tiny("llama"), text) == pytest.approx(control.net_margin, abs=1e-4)


def test_no_braces_of_a_document_are_filled() -> None:
    odd = Item("x", "x", "conflict", "{answer} {question}", "{rival} {document}?", "{document}", "{answer}")
    assert fill_prompt("{document}|{question}|{answer}|{rival}", odd) == "|".join(
        (odd.document, odd.question, odd.answer, "{answer}")
    )
    assert reword("so: {document}", "{question} {document}") == "so: {question} {document}"
