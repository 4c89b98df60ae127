"""The model runs its own modules, and TransformerLens's inside `as_bridge`; both see the same residual stream."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
import transformers
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent
from transformer_lens.model_bridge.sources.transformers import helpers, source

from override_gap.probes.readings.prior import locate
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject, wrap
from tests.families import words
from tests.probes.readings.test_readings import ITEMS


def components(subject: Subject) -> int:
    """How many of the model's modules are TransformerLens's."""
    return sum(isinstance(module, GeneralizedComponent) for module in subject.model.modules())


def test_outside_as_bridge_no_module_is_transformerlenss(subject: Subject) -> None:
    assert components(subject) == 0
    with suppress(KeyError), subject.bridged.as_bridge():
        assert components(subject) > subject.n_layers
        raise KeyError
    assert components(subject) == 0
    assert len(subject.blocks) == subject.n_layers


def test_the_stream_equals_the_cache_of_the_bridges_hook_points(subject: Subject) -> None:
    """Two routes: hooks on the model's own blocks, and TransformerLens's cache, on rows padded to one width."""
    divergences = [locate(subject, item) for item in ITEMS]
    batch = Batch.of(divergences, subject.device)
    ours = forward(subject, batch, batch.at[:, None], layers=True)
    assert ours.residual is not None
    names = ["blocks.0.hook_in", *(f"blocks.{n}.hook_out" for n in range(subject.n_layers))]
    with torch.no_grad(), subject.bridged.as_bridge() as bridge:
        _, cache = bridge.run_with_cache(batch.ids, attention_mask=batch.mask, names_filter=names)
    rows = torch.arange(len(batch.ids))
    theirs = torch.stack([cache[name][rows, batch.at] for name in names], dim=1)
    assert torch.allclose(ours.residual, theirs.float(), atol=1e-5)


def test_the_final_state_equals_the_bridges(subject: Subject) -> None:
    """To the last bit for a Llama under eager attention; TransformerLens computes some norms in another order."""
    batch = Batch.of([locate(subject, item) for item in ITEMS], subject.device)
    ours = forward(subject, batch, batch.at[:, None]).final
    with subject.bridged.as_bridge():
        bridged = forward(subject, batch, batch.at[:, None]).final
        for parent, key, module, _ in subject.bridged._booted[1]:
            if isinstance(module, torch.nn.Module):
                setattr(parent, key, module)
        eager = forward(subject, batch, batch.at[:, None]).final
    assert torch.allclose(ours, bridged, atol=1e-5)
    assert torch.equal(eager, bridged) or subject.name != "tiny-llama"


def test_a_model_keeps_the_attention_that_it_came_with(subject: Subject) -> None:
    """Booting a bridge leaves eager attention; outside `as_bridge` the model's own is back, in every configuration."""
    own = subject.model.config._attn_implementation
    assert own == "sdpa" or not subject.model._supports_sdpa
    with suppress(KeyError), subject.bridged.as_bridge():
        assert subject.model.config._attn_implementation == "eager"
        raise KeyError
    configurations = {id(m.config): m.config for m in subject.model.modules() if hasattr(m, "config")}
    assert {c._attn_implementation for c in configurations.values()} == {own}


def test_a_vision_language_model_is_wrapped_without_a_processor_or_an_installer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TransformerLens would ask the hub for a processor, and where it needs torchvision have pip install it."""

    calls: list[str] = []
    monkeypatch.setattr(helpers, "_ensure_torchvision", lambda: calls.append("pip"))
    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lambda *_, **__: calls.append("hub"))
    text = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8}
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 8}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    config.architectures = ["Gemma3ForConditionalGeneration"]
    before = source.load_modality_processor
    subject = wrap(transformers.Gemma3ForConditionalGeneration(config).eval(), words(), "tiny-vision")
    with subject.bridged.as_bridge() as bridge:
        assert bridge is not None
    assert source.load_modality_processor is before
    assert len(subject.blocks) == 2
    assert calls == []
