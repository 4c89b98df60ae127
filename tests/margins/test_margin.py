"""Margins: worked numbers, the law that joins them, and the front door of the package."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch

from override_gap import margins
from override_gap.margins.margin import Margins, capped, token_logit


def test_margins_are_read_from_two_logits_of_each_model() -> None:
    base, adapted = torch.tensor([[5.0, 1.0, 0.0]]), torch.tensor([[4.0, 6.5, 9.0]])
    pre, doc = torch.tensor([0]), torch.tensor([1])
    read = Margins.read(partial(token_logit, base), partial(token_logit, adapted), pre, doc)
    assert (read.prior.item(), read.push.item(), read.pull.item()) == (4.0, 5.5, -1.0)
    assert (read.adapter.item(), read.net.item()) == (6.5, 2.5)


def test_the_net_margin_is_adapter_minus_prior_and_one_of_log_probabilities(rng: torch.Generator) -> None:
    base, adapted = (torch.randn(20, 9, generator=rng, dtype=torch.float64) for _ in range(2))
    pre, doc = (torch.randint(9, (20,), generator=rng) for _ in range(2))
    read = Margins.read(partial(token_logit, base), partial(token_logit, adapted), pre, doc)
    normalised = Margins.read(
        partial(token_logit, base.log_softmax(-1)), partial(token_logit, adapted.log_softmax(-1)), pre, doc
    )
    assert torch.allclose(read.net, read.adapter - read.prior, atol=1e-12)
    assert torch.allclose(read.net, normalised.net, atol=1e-12)
    assert torch.allclose(read.prior, normalised.prior, atol=1e-12)


def test_a_soft_cap_bounds_the_logits() -> None:
    logits = torch.tensor([[-1e4, 0.0, 1e-3, 1e4]])
    assert capped(logits, None) is logits
    assert capped(logits, 30.0)[0].tolist() == pytest.approx([-30, 0, 1e-3, 30])


@pytest.mark.parametrize("name", margins.__all__)
def test_every_name_of_the_front_door_is_there(name: str) -> None:
    assert getattr(margins, name).__name__ == name
    assert name in dir(margins)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Items'; it offers Adapter"):
        margins.Items  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_the_front_door_loads_no_library() -> None:
    code = "import sys; from override_gap import margins; margins.Item; margins.read_items; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not set(out.split()) & {"torch", "pandas", "numpy", "transformers"}
