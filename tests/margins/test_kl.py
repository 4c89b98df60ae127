"""KL of next-token distributions against PyTorch's own loss, closed forms and float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from override_gap.margins import kl
from override_gap.margins.kl import kl_divergence


def test_worked_by_hand() -> None:
    # p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): KL = 1/2 log 2 - 1/4 log 2
    base = torch.tensor([[2.0, 1.0, 1.0]]).log() + 5
    other = torch.tensor([[1.0, 2.0, 1.0]]).log() - 3
    assert kl_divergence(base, other).item() == pytest.approx(0.25 * math.log(2), abs=1e-6)


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
def test_equals_pytorchs_loss_and_scipys_entropy(size: float, rng: torch.Generator, monkeypatch) -> None:
    monkeypatch.setattr(kl, "CHUNK", 3 * 501)
    base, other = (size * torch.randn(8, 501, generator=rng) for _ in range(2))
    measured = kl_divergence(base, other)
    loss = torch.nn.functional.kl_div(
        other.double().log_softmax(-1), base.double().log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    assert torch.allclose(measured.double(), loss, rtol=1e-5, atol=1e-6)
    p, q = (z.double().softmax(-1).numpy() for z in (base, other))
    if size <= 1:
        assert np.allclose(measured.numpy(), entropy(p, q, axis=1), rtol=1e-4, atol=1e-6)


def test_equal_logits_and_a_constant_between_them_give_nothing(rng: torch.Generator) -> None:
    base = 10 * torch.randn(5, 1000, generator=rng)
    assert kl_divergence(base, base).tolist() == kl_divergence(base, base.clone()).tolist() == [0.0] * 5
    shifted = kl_divergence(base, base + 7.0)
    assert (shifted >= 0).all()
    assert shifted.max() < 1e-5


def test_a_token_that_both_rule_out_adds_nothing_and_one_that_the_other_alone_rules_out_is_infinite() -> None:
    out = -math.inf
    both = kl_divergence(torch.tensor([[1.0, 0.0, out]]), torch.tensor([[0.0, 1.0, out]]))
    assert both.item() == pytest.approx(kl_divergence(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item())
    assert kl_divergence(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, out]])).item() == math.inf
    assert kl_divergence(torch.tensor([[1.0, out]]), torch.tensor([[1.0, out]])).item() == 0


def test_no_rows_give_no_numbers() -> None:
    assert kl_divergence(torch.zeros(0, 7), torch.zeros(0, 7)).shape == (0,)
