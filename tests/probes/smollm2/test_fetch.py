"""The reference checks of the tiny models, on a real model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from override_gap.margins.items.item import Item
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.environment import home
from override_gap.probes.items import open_items
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.load import open_subject
from tests.conftest import random_adapter

FOLDER = home() / "smollm2"
pytestmark = [
    pytest.mark.smollm2,
    pytest.mark.skipif(not (FOLDER / "model.safetensors").is_file(), reason="`make smollm2` fetches the model"),
]


@pytest.fixture(scope="module")
def smollm2():
    return open_subject("smollm2", device="cpu")


def test_batched_hooks_match_peft(smollm2, rng: torch.Generator, tmp_path: Path) -> None:
    adapters = [random_adapter(smollm2, rng, ("down_proj",), rank=4, size=0.02) for _ in range(2)]
    ids = torch.tensor([smollm2.tokenize("The capital of France is"), smollm2.tokenize("The colour of grass is")])
    with torch.no_grad():
        base = smollm2.model(input_ids=ids).logits
        with attached(smollm2, stack(smollm2, adapters), torch.ones(2, smollm2.n_layers)):
            ours = smollm2.model(input_ids=ids).logits
    for n, adapter in enumerate(adapters):
        write_adapter(adapter, tmp_path / str(n))
        with_peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(FOLDER), tmp_path / str(n))
        with torch.no_grad():
            expected = with_peft(input_ids=ids[n : n + 1]).logits[0]
        assert (expected - base[n]).abs().max() > 0.1
        assert (ours[n] - expected).abs().max() < 1e-4


def test_known_facts_match_independent_figures(smollm2) -> None:
    """Measured once on the same weights without this toolkit: log P(Paris) = -0.26, log P(Au) = -0.04."""
    items = [
        Item("fr", "fr", "conflict", "d", "The capital of France is", "Lyon", "Paris"),
        Item("au", "au", "conflict", "d", "The chemical symbol for gold is", "Zn", "Au"),
    ]
    prior = read_prior(smollm2, items, [locate(smollm2, item) for item in items])
    assert prior.strength.tolist() == pytest.approx([-0.26, -0.04], abs=0.02)
    assert prior.known.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["starter", "benchmark"])
def test_every_shipped_item_can_be_read(name: str, smollm2) -> None:
    for item in open_items(name):
        assert locate(smollm2, item).at >= 0
