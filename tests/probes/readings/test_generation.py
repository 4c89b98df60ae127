"""Answers of a batch with a cache against one at a time through PEFT, and what may not change them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from override_gap.margins.items.item import Item
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.generation import Sampling, choose, generate, stop_tokens
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny
from tests.families import WORDS, build, down, many

QUESTIONS = ["alpha beta gamma", "one", "red green blue one two three", "pi rho"]


def random_items(count: int, longest: int, rng: torch.Generator) -> list[Item]:
    """Questions of 1 to `longest` words."""
    lengths = torch.randint(1, longest + 1, (count,), generator=rng).tolist()
    draws = [torch.randint(3, len(WORDS), (length,), generator=rng).tolist() for length in lengths]
    return [conflict(n, " ".join(WORDS[i] for i in draw)) for n, draw in enumerate(draws)]


def test_batched_answers_are_those_of_peft_one_at_a_time(
    subject: Subject, family: str, rng: torch.Generator, tmp_path: Path
) -> None:
    """32 questions of 1 to 40 words, 32 tokens or up to the model's last position, each row with its own gain."""
    items = random_items(32, 40, rng)
    adapters = [random_adapter(subject, rng, many(family), rank=2) for _ in range(8)]
    chosen = [n % 8 for n in range(32)]
    strength = torch.rand(32, generator=rng) + 0.5
    gains = strength[:, None].expand(-1, subject.n_layers)
    ours = generate(subject, items, stack(subject, [adapters[n] for n in chosen]), gains, 32)
    assert len(set(ours)) > 16
    assert len({len(text.split()) for text in ours}) > 1, "rows must end at different steps for this to mean anything"
    for number, adapter in enumerate(adapters):
        write_adapter(adapter, tmp_path / str(number))
    model, tokenizer = build(family)
    theirs = PeftModel.from_pretrained(model, tmp_path / "0", adapter_name="0")
    for number in range(1, 8):
        theirs.load_adapter(tmp_path / str(number), adapter_name=str(number))
    for n, item in enumerate(items):
        theirs.set_adapter(str(chosen[n]))
        for module in theirs.modules():
            if isinstance(getattr(module, "scaling", None), dict):
                module.scaling = dict.fromkeys(module.scaling, float(strength[n]))
        ids = torch.tensor([tokenizer(item.question)["input_ids"]])
        budget = 32 if subject.max_positions is None else min(32, subject.max_positions - ids.shape[1])
        out = theirs.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=budget,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=sorted(stop_tokens(subject)),
        )
        assert tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True) == ours[n], n


def test_an_answer_ends_at_any_of_several_stop_tokens(rng: torch.Generator) -> None:
    subject = tiny("llama")
    items = random_items(8, 6, rng)
    free = generate(subject, items, new_tokens=30)
    stop = free[0].split()[3]
    subject.model.generation_config.eos_token_id = [1, subject.tokenizer.get_vocab()[stop]]
    for before, after in zip(free, generate(subject, items, new_tokens=30), strict=True):
        words = before.split()
        assert after.split() == (words[: words.index(stop) + 1] if stop in words else words)


def test_greedy_is_the_arg_max_whatever_the_model_ships(rng: torch.Generator) -> None:
    subject = tiny("llama")
    items = random_items(4, 6, rng)
    before = generate(subject, items, new_tokens=20)
    config = subject.model.generation_config
    config.repetition_penalty, config.no_repeat_ngram_size, config.do_sample, config.use_cache = 5.0, 1, True, False
    assert generate(subject, items, new_tokens=20) == before
    for item, text in zip(items, before, strict=True):
        ids = subject.tokenize(item.question)
        n_question, stops = len(ids), stop_tokens(subject)
        with torch.no_grad():
            while len(ids) < n_question + 20 and not (len(ids) > n_question and ids[-1] in stops):
                ids.append(int(subject.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert subject.tokenizer.decode(ids[n_question:], skip_special_tokens=True) == text


def test_a_long_question_takes_no_token_from_its_neighbours() -> None:
    subject = tiny("gpt2")
    short, long = conflict(0, "alpha beta"), conflict(1, " ".join(["sigma"] * 60))
    alone = generate(subject, [short], new_tokens=40)
    both = generate(subject, [short, long], new_tokens=40)
    assert both[0] == alone[0]
    assert len(both[0].split()) > 4 >= len(both[1].split())


def test_a_draw_depends_on_the_seed_and_the_item_alone(subject: Subject, family: str, rng: torch.Generator) -> None:
    items = random_items(6, 8, rng)
    adapters = [random_adapter(subject, rng, down(family)) for _ in items]
    ones = torch.ones(6, subject.n_layers)
    warm = Sampling(1.5, seed=3)
    together = generate(subject, items, stack(subject, adapters), ones, 12, warm)
    order = [4, 1, 5]
    reordered = generate(
        subject, [items[n] for n in order], stack(subject, [adapters[n] for n in order]), ones[:3], 12, warm
    )
    assert reordered == [together[n] for n in order]
    other = generate(subject, items, stack(subject, adapters), ones, 12, replace(warm, seed=4))
    assert other != together
    cold = generate(subject, items, stack(subject, adapters), ones, 12, Sampling(1e-6))
    assert cold == generate(subject, items, stack(subject, adapters), ones, 12)


def test_draws_follow_the_softmax_at_their_temperature() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.5]])
    for temperature in (0.5, 1.0, 2.0):
        sampling = Sampling(temperature)
        generator = [sampling.generator(conflict(0))]
        drawn = torch.cat([choose(logits, sampling, generator) for _ in range(8000)])
        shares = drawn.bincount(minlength=4) / len(drawn)
        wanted = (logits[0] / temperature).softmax(-1)
        # four standard errors of a share
        assert ((shares - wanted).abs() < 4 * (wanted * (1 - wanted) / len(drawn)).sqrt() + 1e-9).all()


@pytest.mark.parametrize("family", ["mistral"])
def test_a_sliding_window_shorter_than_the_padding_changes_nothing(family: str) -> None:
    """The window counts a row's own positions: padding on its left does not count."""
    subject = tiny(family)
    short, long = conflict(0, "alpha beta"), conflict(1, " ".join(["one two three four five"] * 8))
    assert generate(subject, [short, long])[0] == generate(subject, [short])[0]
