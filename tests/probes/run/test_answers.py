"""Answers of a run: greedy and drawn, with a system prompt, the same whatever the batch size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from override_gap.margins.items.item import ItemError
from override_gap.margins.items.matching import says
from override_gap.probes.attach.stack import stack
from override_gap.probes.plan import Plan, PlanError, read_plan
from override_gap.probes.readings.generation import Sampling, generate
from override_gap.probes.run.loop import run
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.chat import chat_prompt
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny

WORDS = "alpha beta gamma delta epsilon zeta eta theta".split()
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue") for n in range(4)]
PLAN = Plan(
    "tiny", "fitted", "own", "uniform-1.5", ("margins", "answers", "sampled"), answers=2, temperatures=(1.0,), draws=2
)
TURNS = (
    "{% for m in messages %}{{ {'system': 'one', 'user': 'two', 'assistant': 'three'}[m.role] }} {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}three {% endif %}"
)


def audit(out: Path, subject: Subject, plan: Plan = PLAN) -> tuple[pd.DataFrame, pd.DataFrame]:
    run(plan, subject, FittedAdapters(subject, steps=5, lr=3e-2), ITEMS, out)
    readings = pd.read_parquet(out / "readings").set_index(["item", "condition"]).sort_index()
    return readings, pd.read_parquet(out / "drawn") if "sampled" in plan.probes else pd.DataFrame()


def test_drawn_answers_are_stored_and_do_not_hang_on_the_batch(tmp_path: Path) -> None:
    subject = tiny("llama")
    readings, drawn = audit(tmp_path / "a", subject)
    assert len(drawn) == 2 * 3 * 2
    assert drawn.answer_text.nunique() >= 6
    alone_readings, alone = audit(tmp_path / "b", subject, replace(PLAN, batch_size=1))
    order = ["item", "condition", "temperature", "draw"]
    pd.testing.assert_frame_equal(
        drawn.sort_values(order, ignore_index=True), alone.sort_values(order, ignore_index=True)
    )
    pd.testing.assert_series_equal(readings.answer_text, alone_readings.answer_text)
    row = drawn[(drawn.condition == "uniform-1.5") & (drawn.draw == 1) & (drawn.temperature == 1.0)].iloc[0]
    item = next(item for item in ITEMS if item.id == row["item"])
    from override_gap.margins.items.item import documents_of

    adapter = stack(subject, FittedAdapters(subject, steps=5, lr=3e-2).encode(documents_of([item])))
    again = generate(subject, [item], adapter, torch.full((1, subject.n_layers), 1.5), sampling=Sampling(1.0, 0, 1))
    assert again == [row.answer_text]
    assert row.success_answer == says(row.answer_text, item)


def test_a_system_prompt_goes_before_every_question(tmp_path: Path) -> None:
    subject = tiny("llama")
    subject.tokenizer.chat_template = TURNS
    readings, _ = audit(
        tmp_path / "run", subject, replace(PLAN, system_prompt="omega", probes=("margins", "answers"), answers=4)
    )
    told = generate(subject, [conflict(0, "one omega two alpha beta three")])[0]
    other = generate(subject, [conflict(0, "two alpha beta three")])[0]
    assert readings.loc[("c0", "base"), "answer_text"] == told != other
    with torch.no_grad():
        ids = torch.tensor([subject.tokenize("one omega two alpha beta three")])
        logits = subject.model(input_ids=ids).logits[0, -1]
    vocab = subject.tokenizer.get_vocab()
    by_hand = logits[vocab["blue"]] - logits[vocab["red"]]
    assert readings.loc[("c0", "base"), "prior_margin"] == pytest.approx(by_hand.item(), abs=1e-4)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "needs a chat template"),
        ("{{ raise_exception('System role not supported') }}", "refuses the turns: System role"),
        ("one", "leaves the question out"),
    ],
)
def test_a_system_prompt_that_cannot_be_put_is_refused(template: str | None, message: str, tmp_path: Path) -> None:
    subject = tiny("llama")
    subject.tokenizer.chat_template = template
    with pytest.raises(ItemError, match=message):
        audit(tmp_path / "run", subject, replace(PLAN, system_prompt="omega"))
    assert not (tmp_path / "run").exists()


def test_without_a_system_prompt_the_template_is_as_it_was() -> None:
    tokenizer = tiny("llama").tokenizer
    tokenizer.chat_template = TURNS
    assert chat_prompt(tokenizer, "red").text == "two red three "


def test_settings_of_draws_are_checked(tmp_path: Path) -> None:
    for settings in (
        {"temperatures": ()},
        {"temperatures": (0.0,)},
        {"temperatures": (True,)},
        {"temperatures": ("warm",)},
        {"draws": 0},
    ):
        with pytest.raises(PlanError, match="needs"):
            Plan(**settings)
    (tmp_path / "plan.toml").write_text('temperatures = [0.5, 2]\ndraws = 3\nsystem_prompt = "Be brief."\n')
    plan = Plan(**read_plan(tmp_path / "plan.toml"))
    assert (plan.temperatures, plan.draws, plan.system_prompt) == ((0.5, 2), 3, "Be brief.")
    (tmp_path / "plan.toml").write_text("system_prompt = 3\n")
    with pytest.raises(PlanError, match="needs a text"):
        read_plan(tmp_path / "plan.toml")
