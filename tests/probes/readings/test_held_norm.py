"""The margin with the final norm held at the base's: by a route of its own, through the model's own modules."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.held_norm import net_at_base_norm
from override_gap.probes.readings.prior import locate, read_prior
from tests.conftest import conflict, tiny


@pytest.mark.parametrize("family", ["llama", "gpt2"])  # RMSNorm; LayerNorm with a bias
def test_it_is_the_margin_of_the_adapted_stream_over_the_bases_scale(family: str) -> None:
    subject, item = tiny(family), conflict(0, "alpha beta", "red", "blue")
    place = locate(subject, item)
    prior = read_prior(subject, [item], [place], layers=True)
    path = next(p for p in subject.sites if p.endswith(("down_proj", "mlp.c_proj")))
    site, generator = subject.sites[path], torch.Generator().manual_seed(1)
    A, B = torch.randn(2, site.d_in, generator=generator), torch.randn(site.d_out, 2, generator=generator)
    adapters = stack(subject, [Adapter("a", {path: LowRank(A, B)})])
    state = read_adapted(subject, prior, adapters, torch.ones(1, subject.n_layers), layers=True)
    held = net_at_base_norm(subject, prior, state)
    assert held is not None

    # the module itself, fed the adapted stream scaled so that it divides by what the base's is divided by
    streams = []
    module = subject.decoder.norm if family == "llama" else subject.decoder.ln_f
    hook = module.register_forward_pre_hook(lambda _, args: streams.append(args[0][0, prior.batch.at[0]].clone()))
    ids = torch.tensor([list(place.fed)])
    subject.decoder(input_ids=ids)
    with attached(subject, adapters, torch.ones(1, subject.n_layers)):
        subject.decoder(input_ids=ids)
    hook.remove()
    base, adapted = (s - s.mean() if family == "gpt2" else s for s in streams)
    bias = getattr(module, "bias", None)
    bias = torch.zeros_like(base) if bias is None else bias
    normed = (module(adapted) - bias) * adapted.square().mean().sqrt() / base.square().mean().sqrt() + bias
    logits = normed @ subject.model.get_output_embeddings().weight.T
    assert held.item() == pytest.approx((logits[prior.doc[0]] - logits[prior.pre[0]]).item(), abs=2e-4)
    assert abs(held.item() - state.margins.net.item()) > 0.01
    assert net_at_base_norm(replace(subject, cap=30.0), prior, state) is None


def test_without_an_adapter_it_is_minus_the_prior_margin() -> None:
    subject, item = tiny("llama"), conflict(0, "alpha beta", "red", "blue")
    prior = read_prior(subject, [item], [locate(subject, item)], layers=True)
    path = next(p for p in subject.sites if p.endswith("down_proj"))
    site = subject.sites[path]
    adapters = stack(subject, [Adapter("a", {path: LowRank(torch.ones(1, site.d_in), torch.ones(site.d_out, 1))})])
    state = read_adapted(subject, prior, adapters, torch.zeros(1, subject.n_layers), layers=True)
    held = net_at_base_norm(subject, prior, state)
    assert held is not None
    assert held.item() == pytest.approx(-state.margins.prior.item(), abs=1e-5)
