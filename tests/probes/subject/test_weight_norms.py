"""Weight norms against the model's own parameters."""

from __future__ import annotations

import math

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank, Vector
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.weight_norms import WeightNorms, changed_weight_norms
from tests.conftest import random_adapter, tiny
from tests.families import DOWN


def test_every_maps_norm_is_that_of_its_parameter(subject: Subject) -> None:
    own = {name.replace("_original_component.", ""): value for name, value in subject.model.named_parameters()}
    for path in subject.sites:
        expected = own.get(f"{path}.weight", subject.unembedding).double().square().sum().sqrt().item()
        assert subject.weights.of(path) == pytest.approx(expected, rel=1e-6)


def test_a_layers_norm_is_of_the_weights_that_its_updates_change(rng: torch.Generator) -> None:
    subject = tiny("llama")
    both = random_adapter(subject, rng, ("down_proj", "q_proj"))
    one = Adapter("one", {p: u for p, u in both.updates.items() if "layers.1." in p and p.endswith("q_proj")})
    norms = changed_weight_norms(subject.weights, [both, one], subject.n_layers)
    own = {name.replace("_original_component.", ""): value for name, value in subject.model.named_parameters()}
    for layer in range(subject.n_layers):
        q, down = (
            own[f"model.layers.{layer}.{name}.weight"].double() for name in ("self_attn.q_proj", "mlp.down_proj")
        )
        assert norms[0, layer].item() == pytest.approx(math.sqrt((q**2).sum() + (down**2).sum()))
        assert norms[1, layer].item() == pytest.approx(q.norm().item() if layer == 1 else 0.0)


def test_norms_of_vectors_are_those_of_the_parameters() -> None:
    subject = tiny("gpt2")
    path = f"{next(p for p in subject.sites if p.endswith(DOWN['gpt2']))}.bias"
    own = dict(subject.model.named_parameters())
    with torch.no_grad():
        own[next(name for name in own if name.replace("_original_component.", "") == path)].fill_(2.0)
    width = subject.d_model
    assert WeightNorms(subject.model, subject.sites).of(path) == pytest.approx(2.0 * math.sqrt(width))
    adapter = Adapter("bias", {path: Vector(torch.ones(width))})
    layer = changed_weight_norms(WeightNorms(subject.model, subject.sites), [adapter], subject.n_layers)[0]
    assert layer[layer > 0].tolist() == pytest.approx([2.0 * math.sqrt(width)])


class Halved(torch.nn.Linear):
    """A map that multiplies by half of its parameter, as a quantised one multiplies by what its numbers stand for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, 0.5 * self.weight)


def test_the_norm_of_a_map_that_stores_other_numbers_is_that_of_what_it_multiplies_by() -> None:
    subject = tiny("llama")
    path = "model.layers.0.mlp.down_proj"
    before = WeightNorms(subject.model, subject.sites).of(path)
    subject.sites[path].module.__class__ = Halved
    assert WeightNorms(subject.model, subject.sites).of(path) == pytest.approx(0.5 * before, rel=1e-4)


def test_weights_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tiny("llama")
    read = []
    norms = WeightNorms(subject.model, subject.sites)
    monkeypatch.setattr(WeightNorms, "_norm", lambda self, path: read.append(path) or 1.0)
    adapters = [
        Adapter(str(n), {"model.layers.0.mlp.down_proj": LowRank(torch.ones(1, 2), torch.ones(2, 1))}) for n in "ab"
    ]
    changed_weight_norms(norms, adapters, 3)
    changed_weight_norms(norms, adapters, 3)
    assert read == ["model.layers.0.mlp.down_proj"]
