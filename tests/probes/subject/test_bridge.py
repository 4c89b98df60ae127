"""The model runs its own modules; TransformerLens's are there while they are asked for, and see the same stream."""

from __future__ import annotations

from contextlib import suppress

import torch
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

from override_gap.probes.readings.prior import locate
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject
from tests.probes.readings.test_readings import ITEMS


def components(subject: Subject) -> int:
    """How many of the model's modules are TransformerLens's."""
    return sum(isinstance(module, GeneralizedComponent) for module in subject.model.modules())


def test_at_rest_no_module_is_the_bridges(subject: Subject) -> None:
    assert components(subject) == 0
    with suppress(KeyError), subject.bridged.as_bridge():
        assert components(subject) > subject.n_layers
        raise KeyError
    assert components(subject) == 0
    assert len(subject.blocks) == subject.n_layers


def test_the_stream_is_what_the_bridges_hook_points_show(subject: Subject) -> None:
    """Two routes: hooks on the model's own blocks, and TransformerLens's cache, on rows padded to one width."""
    places = [locate(subject, item) for item in ITEMS]
    batch = Batch.of(places, subject.device)
    ours = forward(subject, batch, batch.at[:, None], layers=True)
    assert ours.residual is not None
    names = ["blocks.0.hook_in", *(f"blocks.{n}.hook_out" for n in range(subject.n_layers))]
    with torch.no_grad(), subject.bridged.as_bridge() as bridge:
        _, cache = bridge.run_with_cache(batch.ids, attention_mask=batch.mask, names_filter=names)
    rows = torch.arange(len(batch.ids))
    theirs = torch.stack([cache[name][rows, batch.at] for name in names], dim=1)
    assert torch.allclose(ours.residual, theirs.float(), atol=1e-5)


def test_the_models_own_pass_ends_where_the_bridges_does(subject: Subject) -> None:
    """A Llama's to the last bit, at the final state; TransformerLens computes some families' norms in an order of its own."""
    batch = Batch.of([locate(subject, item) for item in ITEMS], subject.device)
    own = forward(subject, batch, batch.at[:, None]).final
    with subject.bridged.as_bridge():
        bridged = forward(subject, batch, batch.at[:, None]).final
    assert torch.allclose(own, bridged, atol=1e-5)
    assert torch.equal(own, bridged) or subject.name != "tiny-llama"
