"""An update beside its weight: intruder dimensions against PEFT's own count, and the span against worked cases."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.intruders import reduce_intruder_dimension

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import Dense, LowRank, Vector
from override_gap.probes.readings.spectra import intruders, read_spectra
from tests.conftest import random_adapter, tiny

PLACES = ("self_attn.q_proj", "mlp.down_proj")


@pytest.mark.parametrize("scale", [0.01, 0.3, 3.0])
def test_intruder_dimensions_are_as_many_as_peft_finds(scale: float) -> None:
    subject = tiny("llama")
    drawn = random_adapter(subject, torch.Generator().manual_seed(4), PLACES)
    adapter = Adapter("a", {p: LowRank(u.A, u.B, scale) for p, u in drawn.updates.items() if isinstance(u, LowRank)})
    rank = next(iter(adapter.updates.values())).rank
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(adapter.updates))
    model = get_peft_model(copy.deepcopy(subject.model), config)
    for path, update in adapter.updates.items():
        assert isinstance(update, LowRank)
        layer = model.base_model.model.get_submodule(path)
        layer.lora_A["default"].weight.data = update.A.clone()
        layer.lora_B["default"].weight.data = update.scale * update.B
    said: list[str] = []
    reduce_intruder_dimension(model, logging_sink=said.append)
    peft = {}
    for line in (line for line in said if "ntruders" in line):
        path, _, count = line.removeprefix("base_model.model.").partition(": ")
        peft[path] = int(found[0]) if (found := re.findall(r"\d+", count)) else 0
    ours = {spectrum.path: spectrum.intruders for spectrum in read_spectra(subject, adapter)}
    assert ours == peft
    assert set(ours) == set(adapter.updates)


def test_the_sizes_of_an_update_and_its_share_in_the_weights_span() -> None:
    subject = tiny("llama")
    path = "model.layers.1.mlp.down_proj"
    weight = subject.sites[path].module.get_parameter("weight").detach()
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    along = Dense(2.0 * torch.outer(left[:, 0], right[0]))
    [first] = read_spectra(subject, Adapter("along", {path: along}))
    assert (first.layer, first.intruders, first.looked_at) == (1, 0, 10)
    assert first.norm == pytest.approx(2.0, abs=1e-5)
    assert first.stable_rank == pytest.approx(1.0, abs=1e-5)
    assert first.inside == pytest.approx(1.0, abs=1e-5)
    assert first.by_chance == pytest.approx(1 / weight.shape[0])
    # two directions, of which one is among the weight's two leading ones: 1 of 1 + 4 of the squared norm
    two = Dense(torch.outer(left[:, 1], right[3]) + 2.0 * torch.outer(left[:, 7], right[9]))
    [second] = read_spectra(subject, Adapter("two", {path: two}))
    assert second.inside == pytest.approx(0.2, abs=1e-5)
    assert second.stable_rank == pytest.approx(5 / 4, abs=1e-5)


def test_vectors_and_updates_of_zero_are_left_out() -> None:
    subject = tiny("llama")
    shape = (subject.sites["model.layers.0.mlp.down_proj"].d_out, subject.sites["model.layers.0.mlp.down_proj"].d_in)
    updates = {
        "model.layers.0.mlp.down_proj": Dense(torch.zeros(shape)),
        "model.layers.1.input_layernorm.weight": Vector(torch.ones(shape[0])),
    }
    assert list(read_spectra(subject, Adapter("a", updates))) == []


def test_a_vector_unlike_every_one_of_the_weights_is_an_intruder() -> None:
    own = torch.eye(9)[:, :9]
    spread = torch.full((9,), 1 / 3.0)  # cosine 1/3 with every axis
    near = torch.tensor([0.6, 0.8, *[0.0] * 7])
    assert intruders(own, torch.stack([spread, near, -own[:, 2]], dim=1)) == 1
