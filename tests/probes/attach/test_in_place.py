"""Updates added to a map's output in its place: not where formats differ, and what cancels to nothing is still refused."""

from __future__ import annotations

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import check, stack
from override_gap.probes.errors import AdapterError
from tests.conftest import random_adapter, tiny


def test_under_autocast_an_update_is_added_in_the_maps_format(rng: torch.Generator) -> None:
    subject = tiny("llama")
    adapters = [random_adapter(subject, rng, ("q_proj", "down_proj")) for _ in range(2)]
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    ones = torch.ones(2, subject.n_layers)
    with torch.no_grad(), attached(subject, stack(subject, adapters), ones):
        whole = subject.decoder(input_ids=ids).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            cast = subject.decoder(input_ids=ids).last_hidden_state
    assert (cast.float() - whole).abs().max() < 0.1 * whole.abs().max()


def test_factors_that_cancel_are_an_adapter_that_changes_nothing() -> None:
    subject = tiny("llama")
    path, site = next((path, site) for path, site in subject.sites.items() if path.endswith("down_proj"))
    a, b = torch.randn(1, site.d_in), torch.randn(site.d_out, 1)
    nothing = Adapter("nothing", {path: LowRank(torch.cat([a, a]), torch.cat([b, -b], dim=1))})
    something = Adapter("something", {path: LowRank(torch.cat([a, a]), torch.cat([b, b], dim=1))})
    check(subject, [something, something])
    with pytest.raises(AdapterError, match="nothing changes nothing"):
        check(subject, [something, nothing])
