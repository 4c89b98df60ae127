"""Old answers from the base: equal to transformers' own greedy text, stored, excluded with reasons, known by construction."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from override_gap.analyses.readings import load
from override_gap.analyses.summary import summarise
from override_gap.margins.items.files import read_items
from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.plan import Plan, PlanError
from override_gap.probes.run.audit import measure
from override_gap.probes.run.base_answers import NEW_TOKENS, SAYS_IT, SAYS_NOTHING, fill_priors
from override_gap.probes.run.engine import Local
from override_gap.probes.run.loop import run, run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.run.shards import Shard, merge
from override_gap.probes.sources import open_source
from override_gap.probes.subject.model import Subject
from tests.conftest import tiny

# questions after which the model does not go on with a comma; to the third it begins with its pad token, which is no text
QUESTIONS = ["alpha beta", "sigma nu", "seven", "nine ten"]
PLAN = Plan("tiny", "fitted", "i", "as-delivered", ("margins",), prior="from-base")


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny("llama")


def greedy(subject: Subject, question: str) -> str:
    """Transformers' own greedy continuation, no cache, no batch."""
    ids = torch.tensor([subject.tokenize(question)])
    start = ids.shape[1]
    for _ in range(NEW_TOKENS):
        with torch.no_grad():
            token = subject.model(ids, use_cache=False).logits[0, -1].argmax()
        if token.item() == subject.tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, token.view(1, 1)], dim=1)
    text = subject.tokenizer.decode(ids[0, start:], skip_special_tokens=True)
    return re.split(r" [.,]", text)[0].strip()


def unsaid(subject: Subject, text: str) -> str:
    """A word of the vocabulary that a text does not hold."""
    return next(word for word in ("red", "blue", "iota", "kappa", "mu", "nu", "xi") if word not in text.split())


def conflicts(subject: Subject) -> list[Item]:
    return [
        Item.conflict(f"{question} {unsaid(subject, greedy(subject, question))}", question,
                      answer=unsaid(subject, greedy(subject, question)))
        for question in QUESTIONS
    ]  # fmt: skip


def test_the_old_answer_is_the_greedy_text_and_its_first_token_is_known(subject: Subject, tmp_path: Path) -> None:
    items = conflicts(subject)
    kept = Item.retention(items[0].document, "pi rho", answer="sigma")
    named = replace(items[1], id="named", prior_answer="nu" if items[1].answer != "nu" else "xi")
    out = run(PLAN, subject, open_source("fitted:steps=1", subject), [*items, kept, named], tmp_path / "run")
    asked = read_items(out / "items.json")
    assert [item.prior_answer for item in asked[:4]] == [greedy(subject, question) for question in QUESTIONS]
    assert [item.meta.get("prior_from") for item in asked] == ["base"] * 4 + [None, None]
    assert (asked[4], asked[5]) == (kept, named)
    rows = load(out).readings
    base = rows[(rows["prior_from"] == "base") & (rows["condition"] == "base")]
    known = dict(zip(base["question"], base["known"], strict=True))
    assert [known[question] for question in QUESTIONS] == [True, True, False, True]
    assert dict(zip(base["item"], base["prior_answer"], strict=True)) == {i.id: i.prior_answer for i in asked[:4]}
    assert rows.loc[rows["item"] == "named", "prior_from"].isna().all()
    summary = summarise(load(out))
    assert summary["items"]["prior"] == {"from": "base", "n": 4, "known": 3, "long": 2, "excluded": []}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["plan"]["prior"] == "from-base"
    assert manifest["items"]["prior"] == {"from": "base", "asked": 4, "filled": 4, "long": 2, "excluded": []}


def test_the_margin_compares_the_greedy_token_with_the_documents(subject: Subject) -> None:
    [item] = conflicts(subject)[:1]
    rows = measure(subject, open_source("fitted:steps=1", subject), [item], prior="from-base")
    logits = subject.model(torch.tensor([subject.tokenize(item.question)]), use_cache=False).logits[0, -1]
    answer = subject.tokenize(f"{item.question} {item.answer}")[-1]
    assert rows.loc[rows["condition"] == "base", "prior_margin"].item() == pytest.approx(
        (logits.max() - logits[answer]).item(), abs=1e-4
    )


def test_what_the_base_says_already_is_no_conflict_and_what_it_leaves_open_neither(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = conflicts(subject)
    said = Item.conflict("a document", QUESTIONS[0], answer=greedy(subject, QUESTIONS[0]).split()[0], id="said")
    long = Item.conflict("a document", "alpha " * int(subject.max_positions or 0), answer="red", id="long")
    on = Item.conflict("a document", "epsilon zeta eta", answer="red", id="on")  # it goes on with a comma
    resolved = fill_priors(Local(subject, open_source("fitted", subject)), resolve(PLAN, [*items, said, long, on]))
    assert [item.id for item in resolved.items.items] == [item.id for item in items]
    left_out = {row["item"]: row["reason"] for row in (resolved.priors.excluded if resolved.priors else ())}
    assert (left_out["said"], left_out["on"]) == (SAYS_IT, SAYS_NOTHING)
    assert "no room for an answer" in left_out["long"]
    monkeypatch.setattr("override_gap.probes.run.base_answers.generate", lambda _, items, **__: [" ..."] * len(items))
    with pytest.raises(ItemError, match=f"leaves no item to measure: 4 x {SAYS_NOTHING}"):
        fill_priors(Local(subject, open_source("fitted", subject)), resolve(PLAN, items))


def test_a_run_resumes_without_asking_again_and_its_shards_merge(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, items = Local(subject, open_source("fitted:steps=1", subject)), conflicts(subject)

    def interrupted(done: int, total: int, what: str) -> None:
        if what == "measuring":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(engine, resolve(PLAN, items), tmp_path / "whole", interrupted)
    for number in (1, 2):
        run_plan(engine, resolve(PLAN, items), tmp_path / str(number), shard=Shard(number, 2))
    monkeypatch.setattr("override_gap.probes.run.base_answers.base_answers", None)
    run_plan(engine, resolve(PLAN, items), tmp_path / "whole")
    merged = merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged")
    assert (merged / "items.json").read_bytes() == (tmp_path / "whole" / "items.json").read_bytes()
    assert len(load(merged).readings) == len(load(tmp_path / "whole").readings)


def test_a_conflict_without_an_old_answer_says_how_to_get_one(subject: Subject, tmp_path: Path) -> None:
    plan = replace(PLAN, prior="given")
    out = run(plan, subject, open_source("fitted:steps=1", subject), conflicts(subject), tmp_path / "run")
    assert load(out).readings["error"].str.contains("--prior from-base").all()
    assert not (out / "items.json").exists()
    with pytest.raises(PlanError, match="--prior needs given or from-base, got 'base'"):
        replace(PLAN, prior="base")
