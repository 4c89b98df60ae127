"""Margins on CUDA in bf16 against those in float32 on the CPU, where there is a GPU."""

from __future__ import annotations

import pytest
import torch

from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.subject.model import wrap
from tests.conftest import conflict, random_adapter, tiny
from tests.families import build, many

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
ITEMS = [conflict(0, "alpha beta gamma", "delta", "epsilon"), conflict(1, "one two three four", "five", "six")]


def test_bf16_margins_are_near_the_float32_ones_and_gain_zero_is_exact(family: str, rng: torch.Generator) -> None:
    reference = tiny(family)
    adapters = [random_adapter(reference, rng, many(family), size=0.05) for _ in ITEMS]
    model, tokenizer = build(family)
    subject = wrap(model.to("cuda", torch.bfloat16), tokenizer, f"cuda-{family}")
    ones = torch.ones(len(ITEMS), subject.n_layers)
    margins = {}
    for model in (reference, subject):
        prior = read_prior(model, ITEMS, [locate(model, item) for item in ITEMS])
        stacked = stack(model, adapters)
        margins[model.name] = read_adapted(model, prior, stacked, ones).margins.prior.cpu()
        at_zero = read_adapted(model, prior, stacked, 0 * ones)
        assert torch.equal(at_zero.logits, prior.logits)
    assert torch.allclose(margins[reference.name], margins[subject.name], atol=0.15)
