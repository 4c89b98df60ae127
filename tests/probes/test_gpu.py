"""The oracles of hooks, readings, answers and fitting on a CUDA device; `OVERRIDE_GAP_GPU_TESTS_ON=cpu` rehearses them there."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from override_gap.margins.items.item import documents_of
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.generation import generate, stop_tokens
from override_gap.probes.readings.layers import attribution_gap, attribution_tolerance, read_layers
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.model import Subject, wrap
from tests.conftest import conflict, random_adapter, tiny
from tests.families import build, many

DEVICE = os.environ.get("OVERRIDE_GAP_GPU_TESTS_ON", "cuda" if torch.cuda.is_available() else "")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not DEVICE, reason="no CUDA device")]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Logits of these models are below 4; seen on a CPU are 1e-6, 0.06 and 0.008 where adapters move logits by 2 to 4.
LOGITS = {"float32": 1e-4, "bfloat16": 0.15, "float16": 0.02}
ITEMS = [
    conflict(0, "alpha beta gamma", "delta", "epsilon"),
    conflict(1, "one two three four", "five", "six"),
    conflict(2, "red green", "blue", "omega"),
]


@pytest.fixture(params=sorted(DTYPES))
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


def on_device(family: str, dtype: str) -> tuple[Subject, Any]:
    """The family's tiny model there, wrapped, and a copy with nothing around it."""
    model, tokenizer = build(family)
    model = model.to(DEVICE, DTYPES[dtype])
    bare = copy.deepcopy(model)
    return wrap(model, tokenizer, f"there-{family}"), bare


def priors(subject: Subject, layers: bool = False) -> Any:
    return read_prior(subject, ITEMS, [locate(subject, item) for item in ITEMS], layers=layers)


def test_batched_hooks_match_peft_one_at_a_time(family: str, dtype: str, rng: torch.Generator, tmp_path: Path) -> None:
    subject, bare = on_device(family, dtype)
    adapters = [random_adapter(subject, rng, many(family), size=0.2) for _ in range(3)]
    ids = torch.randint(3, 40, (3, 6), generator=rng).to(DEVICE)
    with torch.no_grad(), attached(subject, stack(subject, adapters), torch.ones(3, subject.n_layers)):
        ours = subject.model(input_ids=ids).logits.float()
    for n, adapter in enumerate(adapters):
        write_adapter(adapter, tmp_path / str(n))
        theirs = PeftModel.from_pretrained(copy.deepcopy(bare), tmp_path / str(n)).to(DEVICE)
        with torch.no_grad():
            wanted = theirs(input_ids=ids[n : n + 1]).logits[0].float()
            base = bare(input_ids=ids[n : n + 1]).logits[0].float()
        assert (wanted - base).abs().max() > 2 * LOGITS[dtype], "the adapter must matter for this test to mean anything"
        assert (ours[n] - wanted).abs().max() < LOGITS[dtype]


def test_margins_are_near_those_of_the_cpu_and_gain_zero_is_exact(
    family: str, dtype: str, rng: torch.Generator
) -> None:
    reference, (subject, _) = tiny(family), on_device(family, dtype)
    adapters = [random_adapter(reference, rng, many(family), size=0.05) for _ in ITEMS]
    ones = torch.ones(len(ITEMS), subject.n_layers)
    margins = []
    for model in (reference, subject):
        prior, stacked = priors(model), stack(model, adapters)
        found = read_adapted(model, prior, stacked, ones).margins
        margins.append(torch.stack([found.prior.cpu(), found.net.cpu()]))
        assert torch.equal(read_adapted(model, prior, stacked, 0 * ones).logits, prior.logits)
    assert torch.allclose(*margins, atol=LOGITS[dtype])


def test_the_model_is_as_it_was_and_its_split_over_layers_adds_up(
    family: str, dtype: str, rng: torch.Generator
) -> None:
    subject, bare = on_device(family, dtype)
    adapters = [random_adapter(subject, rng, many(family), size=0.1) for _ in ITEMS]
    prior = priors(subject, layers=True)
    state = read_adapted(
        subject, prior, stack(subject, adapters), torch.ones(len(ITEMS), subject.n_layers), layers=True
    )
    gaps = attribution_gap(subject, prior, state, read_layers(subject, prior, state))
    assert (gaps <= attribution_tolerance(subject, prior, state)).all()
    assert subject.parity_fault() is None
    ids = torch.arange(3, 11, device=DEVICE)[None]
    with torch.no_grad():
        assert torch.equal(subject.model(input_ids=ids).logits, bare(input_ids=ids).logits)


def test_greedy_answers_are_those_of_peft_one_at_a_time(family: str, rng: torch.Generator, tmp_path: Path) -> None:
    subject, bare = on_device(family, "float32")
    adapters = [random_adapter(subject, rng, many(family), size=0.1) for _ in ITEMS]
    ours = generate(subject, ITEMS, stack(subject, adapters), torch.ones(len(ITEMS), subject.n_layers), 12)
    assert len(set(ours)) > 1
    for n, (item, adapter) in enumerate(zip(ITEMS, adapters, strict=True)):
        write_adapter(adapter, tmp_path / str(n))
        theirs = PeftModel.from_pretrained(copy.deepcopy(bare), tmp_path / str(n)).to(DEVICE)
        ids = torch.tensor([subject.tokenizer(item.question)["input_ids"]], device=DEVICE)
        out = theirs.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=sorted(stop_tokens(subject)),
        )
        assert subject.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True) == ours[n]


def test_adapters_are_fitted_as_on_the_cpu(family: str) -> None:
    documents = documents_of(ITEMS)
    here, there = (
        FittedAdapters(subject, steps=3).encode(documents)
        for subject in (tiny(family), on_device(family, "float32")[0])
    )
    for one, other in zip(here, there, strict=True):
        assert one.updates.keys() == other.updates.keys()
        for path, update in one.updates.items():
            found = other.updates[path]
            assert torch.allclose(update.dense(), found.dense().cpu(), atol=1e-4), path
            assert update.dense().abs().max() > 1e-3
