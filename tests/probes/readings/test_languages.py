"""Chinese, Japanese, Arabic and Russian conflicts on a tiny model that has learned the capitals, against plain transformers.

The other route joins question and answer by hand (nothing between them in Chinese and Japanese, a space in Arabic and Russian),
tokenises with the tokenizer itself, and adds each adapter to the weights of a copy of the model.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pandas as pd
import pytest
import torch

from override_gap.margins.items.files import read_items, write_items
from override_gap.margins.items.item import Item, documents_of
from override_gap.probes.run.audit import measure
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.model import Subject, wrap
from tests.languages import LANGUAGES, TOKENIZERS, conflicts, learned

SPACE = {"Chinese": "", "Japanese": "", "Arabic": " ", "Russian": " "}


@pytest.fixture(scope="module", params=TOKENIZERS)
def subject(request: pytest.FixtureRequest) -> Subject:
    model, tokenizer = learned(request.param)
    return wrap(copy.deepcopy(model), tokenizer, f"capitals-{request.param}")


def first_differing(tokenizer, item: Item, space: str) -> tuple[list[int], list[int], list[int], int]:
    """Question, old and new answer as tokens, and the first position where the answers differ."""
    question = tokenizer(item.question)["input_ids"]
    pre, doc = (tokenizer(item.question + space + a)["input_ids"] for a in (item.prior_answer, item.answer))
    return question, pre, doc, next(n for n, (a, b) in enumerate(zip(pre, doc, strict=False)) if a != b)


def common(left: list[int], right: list[int]) -> int:
    return next(n for n in range(len(left) + 1) if left[: n + 1] != right[: n + 1])


@pytest.mark.parametrize("language", LANGUAGES)
def test_readings_and_answers_are_those_of_plain_transformers(language: str, subject: Subject, tmp_path: Path) -> None:
    write_items(conflicts(language), tmp_path / "items.jsonl")
    items = read_items(tmp_path / "items.jsonl")
    assert len(items) == 20
    source = FittedAdapters(subject, steps=8, lr=1e-2)
    adapters = source.encode(documents_of(items))
    frame = measure(subject, source, items, answers=True).set_index(["item", "condition"])
    tokenizer = subject.tokenizer
    base = learned(subject.name.removeprefix("capitals-"))[0]
    bridging = subject.name.endswith("bridging")
    for item, adapter in zip(items, adapters, strict=True):
        changed = copy.deepcopy(base)
        with torch.no_grad():
            for path, update in adapter.updates.items():
                changed.get_submodule(path).weight.add_(update.dense())
        question, pre, doc, at = first_differing(tokenizer, item, SPACE[language])
        start = common(question, pre)
        prompt = question  # also where its last token merges with an answer: without it another question would be asked
        for model, condition in ((base, "base"), (changed, "as-delivered")):
            row = frame.loc[(item.id, condition)]
            assert row["status"] == "ok"
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([pre])).logits[0]
                written = model.generate(
                    torch.tensor([prompt]), max_new_tokens=64, do_sample=False, pad_token_id=tokenizer.eos_token_id
                )[0, len(prompt) :]
            answer = tokenizer.decode(written, skip_special_tokens=True)
            assert row["answer_text"] == answer
            if condition == "base":
                assert bool(row["known"]) is (int(logits[start - 1].argmax()) == pre[start])
                assert row["prior_margin"] == pytest.approx(
                    float(logits[at - 1, pre[at]] - logits[at - 1, doc[at]]), abs=1e-3
                )
                if not bridging:  # else the model has seen the question's last tokens merged with the answer
                    assert row["known"]
                    assert answer.strip().startswith(str(item.prior_answer))
            else:
                assert row["net_margin"] == pytest.approx(
                    float(logits[at - 1, doc[at]] - logits[at - 1, pre[at]]), abs=1e-3
                )
            assert bool(row["success_top1"]) is (int(logits[at - 1].argmax()) == doc[at])
            first, old = answer.find(item.answer), answer.find(str(item.prior_answer))
            assert bool(row["success_answer"]) is (first >= 0 and (old < 0 or first < old))
    delivered = frame.xs("as-delivered", level="condition")
    if not bridging:
        assert pd.Series(delivered["success_answer"]).mean() > 0.3


def test_bridging_tokens_are_there(subject: Subject) -> None:
    """The second tokenizer puts the question's end and the answer's beginning in one token, the first never does."""
    merged = 0
    for language in LANGUAGES:
        for item in conflicts(language):
            question, pre, _, _ = first_differing(subject.tokenizer, item, SPACE[language])
            merged += pre[: len(question)] != question
    assert merged == 0 if subject.name.endswith("words") else merged > 60


def test_a_wrong_separator_is_seen(subject: Subject) -> None:
    """With a space where Chinese writes none the same base knows hardly a capital: the join is what the first test rests on."""
    if subject.name.endswith("bridging"):
        return
    items = [Item(**{**vars(item), "separator": " "}) for item in conflicts("Chinese")]
    frame = measure(subject, FittedAdapters(subject, steps=1), items)
    assert frame[frame["condition"] == "base"]["known"].astype(bool).mean() < 0.2
