"""Functions of the packages that run a model, called with tensors of a wrong shape: the annotations are checked."""

from __future__ import annotations

import os

import pytest
import torch
from jaxtyping import TypeCheckError

from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.layers import LayerProfile
from override_gap.probes.readings.prior import locate, read_prior
from tests.conftest import conflict, random_adapter, tiny
from tests.families import down

pytestmark = pytest.mark.skipif(
    not os.environ.get("OVERRIDE_GAP_SHAPES"), reason="shapes are checked only under OVERRIDE_GAP_SHAPES=1"
)


def test_a_tensor_with_an_axis_too_many_or_too_few_is_refused() -> None:
    subject = tiny("llama")
    with pytest.raises(TypeCheckError, match="hidden"):
        subject.token_logits(torch.zeros(2, 3, subject.d_model), torch.tensor([1, 2]))
    prior = read_prior(subject, [conflict(0)], [locate(subject, conflict(0))])
    adapters = stack(subject, [random_adapter(subject, torch.Generator(), down("llama"))])
    with pytest.raises(TypeCheckError, match="gains"):
        read_adapted(subject, prior, adapters, torch.ones(subject.n_layers))


def test_two_tensors_that_disagree_on_an_axis_are_refused() -> None:
    subject = tiny("llama")
    with pytest.raises(TypeCheckError, match="doc"):
        subject.margin_direction(torch.tensor([1, 2]), torch.tensor([1, 2, 3]))


def test_an_attribution_without_its_entry_for_the_embedding_is_refused() -> None:
    assert LayerProfile(lens=torch.zeros(2, 3), attribution=torch.zeros(2, 4)).lens.shape == (2, 3)
    with pytest.raises(TypeCheckError, match=r"layer\+1"):
        LayerProfile(lens=torch.zeros(2, 3), attribution=torch.zeros(2, 3))
