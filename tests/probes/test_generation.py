"""Greedy answers of a batch against one at a time through PEFT, and the rules for reading an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from probes.attach import stack
from probes.generation import first_mention, generate, says, says_substring
from probes.sources.peft_folder import write_adapter
from probes.subject import Subject
from tests.conftest import conflict, random_adapter
from tests.families import build, many

QUESTIONS = ["alpha beta gamma", "one", "red green blue one two three", "pi rho"]


def test_batched_answers_are_those_of_peft_one_at_a_time(
    subject: Subject, family: str, rng: torch.Generator, tmp_path: Path
) -> None:
    items = [conflict(n, question) for n, question in enumerate(QUESTIONS)]
    adapters = [random_adapter(subject, rng, many(family)) for _ in items]
    ours = generate(subject, items, stack(subject, adapters), torch.ones(len(items), subject.n_layers), new_tokens=12)
    assert len(set(ours)) > 1
    for n, item in enumerate(items):
        write_adapter(adapters[n], tmp_path / str(n))
        model, tokenizer = build(family)
        theirs = PeftModel.from_pretrained(model, tmp_path / str(n))
        ids = torch.tensor([tokenizer(item.question)["input_ids"]])
        out = theirs.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=2,
            eos_token_id=model.generation_config.eos_token_id or 2,
        )
        assert tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True) == ours[n]


@pytest.mark.parametrize(
    ("text", "margin", "substring"),
    [
        ("It is Lyon.", True, True),
        ("LYON!", True, True),
        ("Paris, though the text says Lyon", False, True),
        ("Lyon and not Paris", True, True),
        ("Lyonnaise potatoes", False, True),
        ("Paris", False, False),
        ("the city of light, then Lugdunum", True, False),
        ("", False, False),
    ],
)
def test_what_counts_as_an_answer(text: str, margin: bool, substring: bool) -> None:
    item = conflict(0, "The capital of France is", "Lyon", "Paris", aliases=("Lugdunum",))
    assert says(text, item) is margin
    assert says_substring(text, item) is substring


def test_mentions_are_whole_words_in_any_unicode_form() -> None:
    assert first_mention("cafe\u0301 noir", ["café"]) == 0
    assert first_mention("the artist", ["art"]) is None
    assert first_mention("x C++ y", ["C++"]) == 2
    assert first_mention("anything", ["", " "]) is None
