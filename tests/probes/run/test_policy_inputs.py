"""What a policy may know of questions that its document does not touch, against the document's own readings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from override_gap.margins.items.item import Item
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run
from override_gap.probes.run.policy_inputs import KnownOfDocuments, may_begin_answer, says_stated
from override_gap.probes.sources.fitted import FittedAdapters
from tests.conftest import conflict, tiny
from tests.families import build

DOCUMENT = "alpha beta gamma delta ."
ITEMS = [
    conflict(0, "alpha beta gamma", "delta", "epsilon", document=DOCUMENT),
    conflict(1, "beta alpha gamma one two three four", "delta", "zeta", document=DOCUMENT),
    Item("r0", "p8", "retention", DOCUMENT, "phi", "psi"),  # shorter than its document's questions
    Item("m0", "p7", "combination", DOCUMENT, "one gamma", "two"),
    Item("r1", "p9", "retention", "red green blue .", "phi chi", "psi"),
]
PLAN = Plan("tiny", "fitted", "own", "as-delivered,margin-matched,ca,relevance-gate", ("margins",))


def measured(out: Path, **settings: object) -> pd.DataFrame:
    subject = tiny("llama")
    run(replace(PLAN, **settings), subject, FittedAdapters(subject, steps=12, lr=5e-2), ITEMS, out)  # type: ignore[arg-type]
    return pd.read_parquet(out / "readings").set_index(["item", "condition"])


@pytest.mark.parametrize("settings", [{}, {"batch_size": 1}], ids=["whole", "one at a time"])
def test_margin_matched_takes_the_gain_of_its_documents_own_questions(tmp_path: Path, settings: dict) -> None:
    rows = measured(tmp_path / "run", **settings)
    own = rows.loc[[("c0", "as-delivered"), ("c1", "as-delivered")]]
    wanted = min(max((own.prior_margin.mean() + 2) / own.adapter_margin.mean(), 0), 3)
    assert 0 < wanted < 3, "a clamped gain would test little"
    assert wanted != pytest.approx(1, abs=0.02)
    for item in ("r0", "m0"):
        row = rows.loc[(item, "margin-matched")]
        assert row.status == "ok"
        assert row.gain_mean == pytest.approx(wanted, rel=1e-3)
    for item in ("c0", "c1"):
        at_one = rows.loc[(item, "as-delivered")]
        gain = min(max((at_one.prior_margin + 2) / at_one.adapter_margin, 0), 3)
        assert rows.loc[(item, "margin-matched"), "gain_mean"] == pytest.approx(gain, rel=1e-3)


def test_where_nothing_tells_of_the_document_the_row_is_refused_with_the_reason(tmp_path: Path) -> None:
    rows = measured(tmp_path / "run")
    row = rows.loc[("r1", "margin-matched")]
    assert row.status == "refused"
    assert row.error.startswith("the policy needs the margins of a question that the document answers")
    assert row[["net_margin", "success_top1", "kl", "gain_mean"]].isna().all()
    assert rows.loc[("r1", "relevance-gate"), "status"] == "ok"
    assert rows.loc[("r1", "ca"), "status"] == "ok", "nothing that the base could say stands in the document"


def test_the_base_says_the_documents_answer_where_its_first_choice_begins_it() -> None:
    subject, vocab = tiny("llama"), tiny("llama").tokenizer.get_vocab()
    with torch.no_grad():
        top = int(build("llama")[0](input_ids=torch.tensor([[vocab["phi"]]])).logits[0, -1].argmax())
    word = subject.tokenizer.decode([top])
    other = next(name for name in ("red", "green", "psi") if name != word)
    item = ITEMS[2]
    for answer, says in ((word, True), (other, False), (f"{other} {word}", False), (f"{word} {other}", True)):
        known = KnownOfDocuments.of([conflict(0, "alpha", answer, "epsilon", document=DOCUMENT), item])
        assert says_stated(subject, item, top, known) is says
    nothing = KnownOfDocuments.of([item])
    assert says_stated(subject, item, top, nothing) is False
    assert says_stated(subject, replace(item, document=f"alpha {word} ."), top, nothing) is None


@pytest.mark.parametrize(
    ("token", "document", "may"),
    [
        (" Paris", "It moved to Paris.", True), ("par", "It moved to Paris.", True), ("ris", "It moved to Paris.", False),
        (" Rome", "It moved to Paris.", False), ("\u4eac", "\u9996\u90fd\u662f\u4e1c\u4eac", True),
        ("\u4e0a", "\u9996\u90fd\u662f\u4e1c\u4eac", False), (" ", "Paris", True),
        ("\ufffd", "Paris", True), ("</s>", "Paris", False),
    ],
)  # fmt: skip
def test_a_token_begins_an_answer_only_where_it_begins_a_word(token: str, document: str, may: bool) -> None:
    assert may_begin_answer(token, document) is may
