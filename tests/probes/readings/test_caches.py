"""Answers of models with recurrent states, or with no cache at all, against a plain loop of whole passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.families.check import word_tokenizer
from benchmarks.families.configs import build
from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings import caches
from override_gap.probes.readings.caches import cache_kind, keep_rows, new_cache
from override_gap.probes.readings.generation import Sampling, generate
from override_gap.probes.subject.model import Subject, wrap
from tests.conftest import conflict, tiny

#: What each family's answers are written with.
KINDS = {
    "bamba": "recurrent",
    "granitemoehybrid": "recurrent",
    "jamba": "recurrent",
    "lfm2": "recurrent",
    "mamba2": "recurrent",
    "nemotron_h": "recurrent",
    "olmo_hybrid": "recurrent",
    "qwen3_5_text": "recurrent",
    "qwen3_next": "recurrent",
    "zamba2": "recurrent",
    "falcon_h1": "none",
    "mamba": "none",
    "minimax": "none",
    "openai-gpt": "none",
    "recurrent_gemma": "none",
    "rwkv": "none",
    "xlstm": "none",
    "gemma3_text": "keys",
    "llama": "keys",
}
#: So many stop tokens that answers end at many lengths, and rows leave the batch one by one.
ENDS = [2, *range(3, 64, 6)]
LENGTHS = (1, 8, 4, 11, 7, 3, 1, 8)


def subject_of(family: str) -> Subject:
    model = build(family)
    model.generation_config.eos_token_id = ENDS
    return wrap(model, word_tokenizer(), family)


def questions(subject: Subject) -> list[str]:
    generator = torch.Generator().manual_seed(3)
    draws = [torch.randint(3, 48, (length,), generator=generator).tolist() for length in LENGTHS]
    return [subject.tokenizer.decode(draw) for draw in draws]


def plain_answer(subject: Subject, prompt: list[int], new_tokens: int) -> str:
    """Greedy, every token by a whole pass of the model alone."""
    ids = torch.tensor([prompt])
    for _ in range(new_tokens):
        with torch.no_grad():
            chosen = subject.model(input_ids=ids, use_cache=False).logits[0, -1].argmax()
        ids = torch.cat([ids, chosen[None, None]], 1)
        if int(chosen) in ENDS:
            break
    return subject.tokenizer.decode(ids[0, len(prompt) :], skip_special_tokens=True)


@pytest.mark.parametrize("family", KINDS)
def test_answers_of_uneven_length_are_those_of_whole_passes(family: str) -> None:
    subject = subject_of(family)
    assert cache_kind(subject) == KINDS[family]
    items = [conflict(n, question) for n, question in enumerate(questions(subject))]
    expected = [plain_answer(subject, subject.prompt_ids(item), 16) for item in items]
    assert len({len(text.split()) for text in expected}) > 1, "rows leave at different times"
    assert generate(subject, items, new_tokens=16) == expected


@pytest.mark.parametrize("family", ["qwen3_5_text", "mamba"])
def test_each_row_has_its_own_adapter_and_gain(family: str, rng: torch.Generator) -> None:
    """Against the plain loop, the update added to the weights."""
    subject = subject_of(family)
    path = next(path for path in subject.sites if path.endswith(("down_proj", "out_proj")) and ".1." in path)
    site, items = subject.sites[path], [conflict(n, question) for n, question in enumerate(questions(subject))]
    adapters = []
    for n in range(len(items)):
        A, B = (torch.randn(shape, generator=rng) for shape in ((2, site.d_in), (site.d_out, 2)))
        adapters.append(Adapter(f"a{n}", {path: LowRank(A, B * 0.3)}))
    gains = torch.rand(len(items), generator=rng)[:, None].expand(-1, subject.n_layers)
    ours = generate(subject, items, stack(subject, adapters), gains, 12)
    expected, weight = [], site.module.get_parameter("weight")
    for item, adapter, gain in zip(items, adapters, gains[:, 0], strict=True):
        before = weight.detach().clone()
        with torch.no_grad():
            weight += gain * adapter.updates[path].dense()
        expected.append(plain_answer(subject, subject.prompt_ids(item), 12))
        with torch.no_grad():
            weight.copy_(before)
    assert ours == expected
    assert ours != generate(subject, items, new_tokens=12)


def test_a_draw_does_not_depend_on_the_rows_beside_it() -> None:
    subject = subject_of("lfm2")
    items = [conflict(n, question) for n, question in enumerate(questions(subject))]
    sampling = Sampling(1.0, seed=5)
    together = generate(subject, items, new_tokens=8, sampling=sampling)
    assert together == [generate(subject, [item], new_tokens=8, sampling=sampling)[0] for item in items]


def test_a_cache_that_gives_other_logits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows kept in the wrong order would exchange two questions' states."""
    subject = subject_of("qwen3_5_text")
    monkeypatch.setattr(caches, "keep_rows", lambda cache, rows: keep_rows(cache, [1 - row for row in rows]))
    assert cache_kind(subject) == "none"


def test_rows_of_a_cache_of_keys_are_dropped_as_before() -> None:
    subject = tiny("llama")
    cache = new_cache(subject)
    ids = torch.tensor([[3, 4, 5], [6, 7, 8], [9, 10, 11]])
    caches.step(subject, cache, ids, torch.ones_like(ids))
    layer: Any = cache.layers[1]
    expected = layer.keys[[2, 0]].clone()
    keep_rows(cache, [2, 0])
    assert torch.equal(layer.keys, expected)


def test_an_answer_whose_logits_are_not_finite_is_no_answer() -> None:
    """arg max of NaN would be token 0, written again and again."""
    subject = tiny("llama")
    items = [conflict(0, "alpha"), conflict(1, "beta gamma")]
    with torch.no_grad():
        subject.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(AdapterError, match="not finite in float32 while the answer is written"):
        generate(subject, items, new_tokens=4)
