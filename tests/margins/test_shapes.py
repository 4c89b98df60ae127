"""Shapes: with the import hook on, a definition called with tensors of the wrong shape raises."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from override_gap.margins.attribution import FinalNorm, attribution, direct, lens
from override_gap.margins.gain_policies import PolicyInputs, Uniform
from override_gap.margins.margin import Margins, token_logit
from override_gap.margins.updates import Dense, Vector

NORM = FinalNorm(torch.ones(4), torch.zeros(4), 1e-5, centred=False)


def test_logits_and_tokens_of_different_batches_raise() -> None:
    assert token_logit(torch.zeros(2, 5), torch.tensor([1, 4])).shape == (2,)
    with pytest.raises(TypeCheckError, match="tokens"):
        token_logit(torch.zeros(2, 5), torch.tensor([1, 4, 0]))
    with pytest.raises(TypeCheckError, match="tokens"):
        token_logit(torch.zeros(2, 5), torch.tensor([1.0, 4.0]))


def test_margins_of_different_batches_raise() -> None:
    with pytest.raises(TypeCheckError, match="adapted_doc"):
        Margins(torch.zeros(2), torch.zeros(2), torch.zeros(2), torch.zeros(3))


def test_attribution_has_an_entry_per_point_of_the_stream() -> None:
    stream, direction, constant = torch.randn(2, 7, 4), torch.randn(2, 4), torch.zeros(2)
    assert (
        attribution(stream, NORM, direction, constant).shape == lens(stream, NORM, direction, constant).shape == (2, 7)
    )
    for definition in (attribution, lens):
        with pytest.raises(TypeCheckError, match="direction"):
            definition(stream, NORM, direction[:1], constant)
    with pytest.raises(TypeCheckError, match="last"):
        direct(stream[:, 0], stream, NORM, direction)


def test_norms_that_are_not_one_per_layer_raise() -> None:
    assert Uniform(2.0)(PolicyInputs(torch.ones(3))).tolist() == [2, 2, 2]
    with pytest.raises(TypeCheckError, match="norms"):
        PolicyInputs(torch.ones(3, 2))


def test_a_policy_takes_inputs_and_not_norms() -> None:
    with pytest.raises(TypeCheckError, match="inputs"):
        Uniform(2.0)(torch.ones(3))  # type: ignore[arg-type]


def test_an_update_of_the_wrong_shape_is_a_value_error_that_says_what_is_needed() -> None:
    """Files and people make updates, so these are checked with the hook off, too."""
    with pytest.raises(ValueError, match=r"need a matrix \[d_out, d_in\], got \[3\]"):
        Dense(torch.ones(3))
    with pytest.raises(ValueError, match=r"need a vector \[d_out\], got \[3, 4\]"):
        Vector(torch.ones(3, 4))
