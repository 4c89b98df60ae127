"""The gain path against the model's own forward with merged weights, finite differences, and models that are linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.parameters import ParameterUpdates
from override_gap.probes.attach.stack import Stack, part_stacks, stack
from override_gap.probes.readings import margin_path
from override_gap.probes.readings.adapted import Adapted, read_adapted
from override_gap.probes.readings.layers import read_causal
from override_gap.probes.readings.margin_path import STACKED, MarginPath, read_margin_path
from override_gap.probes.readings.prior import Prior, locate, read_prior
from override_gap.probes.subject.model import Subject, wrap
from tests.conftest import conflict, random_adapter, tiny
from tests.families import build, many

ITEMS = [
    conflict(0, "alpha beta gamma", "delta", "epsilon"),
    conflict(1, "one two three four five six seven", "eight nine", "eight ten"),
    conflict(2, "red", "green", "blue sigma tau"),
]


def with_parts(subject: Subject, rng: torch.Generator, family: str, size: float = 0.1) -> list[Adapter]:
    """Adapters on maps of every kind, with a part that all share; the last has its own part alone."""
    shared = random_adapter(subject, rng, many(family)[-2:], rank=2, size=size).updates
    adapters = [replace(random_adapter(subject, rng, many(family), size=size), shared=shared) for _ in ITEMS]
    return [*adapters[:-1], replace(adapters[-1], shared={})]


def measured(
    subject: Subject, adapters: Sequence[Adapter], parts: Mapping[str, Stack] | None = None
) -> tuple[MarginPath, Prior, Adapted]:
    places = [locate(subject, item) for item in ITEMS]
    prior = read_prior(subject, ITEMS, places, keep_blocks=True)
    delivered = read_adapted(subject, prior, stack(subject, adapters), torch.ones(len(ITEMS), subject.n_layers))
    path = read_margin_path(subject, prior, part_stacks(subject, adapters) if parts is None else parts, delivered)
    assert isinstance(path, MarginPath)
    return path, prior, delivered


class Merged:
    """A model in float64 whose weights carry every update of an adapter at a gain of its own, read at one item."""

    def __init__(self, family: str, adapter: Adapter, item: int) -> None:
        self.model, self.place = build(family)[0].double(), locate(tiny(family), ITEMS[item])
        self.deltas: dict[tuple[str, str], torch.Tensor] = {}
        for part, updates in (("document", adapter.updates), ("shared", adapter.shared)):
            for path, update in updates.items():
                delta = update.dense().double()
                self.deltas[part, path] = delta.T if family == "gpt2" else delta
        self.weights = {path: self.model.get_submodule(path).weight for _, path in self.deltas}
        self.plain = {path: weight.detach().clone() for path, weight in self.weights.items()}

    def margin(self, at: float, other: tuple[str, str] | None = None, gain: float = 0.0) -> float:
        """g(y_doc) - g(y_pre) with every update at one gain, but one that may have another."""
        for path, weight in self.weights.items():
            weight.data = self.plain[path].clone()
        for site, delta in self.deltas.items():
            self.weights[site[1]].data += (gain if site == other else at) * delta
        with torch.no_grad():
            z = self.model(input_ids=torch.tensor([self.place.prefix])).logits[0, -1]
        assert self.place.pre is not None
        return float(z[self.place.doc] - z[self.place.pre])


def test_the_shares_add_up_to_what_merged_weights_change(subject: Subject, family: str, rng: torch.Generator) -> None:
    adapters = with_parts(subject, rng, family)
    path, _, _ = measured(subject, adapters)
    total = path.push - path.pull
    for n, adapter in enumerate(adapters):
        merged = Merged(family, adapter, n)
        whole = merged.margin(1.0) - merged.margin(0.0)
        assert float(total[n].sum()) == pytest.approx(whole, rel=0.011, abs=2e-3)
        assert float(path.gap[n]) <= 0.01 * abs(whole) + 1e-3
    assert path.closed.all()
    assert total.sum(1).abs().max() > 0.2, "margins of zero would test little"
    assert set(path.nodes.tolist()) <= {3, 6, 12}


def test_each_share_is_that_of_finite_differences_of_its_gain(rng: torch.Generator) -> None:
    subject = tiny("llama")
    adapters = with_parts(subject, rng, "llama")
    path, _, _ = measured(subject, adapters)
    merged = Merged("llama", adapters[0], 0)
    at, weight = np.polynomial.legendre.leggauss(8)
    largest = float((path.push - path.pull).abs().max())
    for n, site in enumerate(path.sites):
        if site[0] == "document" and n % 4:
            continue

        def slope(t: float, site: tuple[str, str] = site, step: float = 1e-4) -> float:
            return (merged.margin(t, site, t + step) - merged.margin(t, site, t - step)) / 2 / step

        share = sum(float(w) / 2 * slope((float(t) + 1) / 2) for t, w in zip(at, weight, strict=True))
        assert float(path.push[0, n] - path.pull[0, n]) == pytest.approx(share, abs=0.02 * largest)
        assert float(path.first[0, n]) == pytest.approx(slope(0.0), rel=0.01, abs=0.002)
    assert largest > 0.1, "shares of zero would test little"


class LinearBlock(torch.nn.Module):
    """A block that adds a linear map of the embedding, whatever the blocks before it added."""

    def __init__(self, embed: torch.nn.Module, width: int) -> None:
        super().__init__()
        self.down_proj = torch.nn.Linear(width, width, bias=False)
        self.read: torch.Tensor | None = None
        embed.register_forward_hook(lambda _m, _a, out: setattr(self, "read", out))

    def forward(self, hidden_states: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return hidden_states + self.down_proj(self.read)


def test_on_a_linear_model_a_layer_does_the_same_alone_and_last() -> None:
    model, tokenizer = build("llama")
    model.model.layers = torch.nn.ModuleList(LinearBlock(model.model.embed_tokens, 32) for _ in range(3))
    model.model.norm = torch.nn.Identity()
    subject = wrap(model, tokenizer, "linear")
    rng = torch.Generator().manual_seed(3)
    adapters = [random_adapter(subject, rng, ("down_proj",)) for _ in ITEMS]
    path, prior, delivered = measured(subject, adapters)
    alone, removed = read_causal(subject, prior, stack(subject, adapters), [0, 1, 2])
    columns = path.by_layer(3)
    for route in (alone, delivered.margins.adapter[:, None] - removed, columns["path_first"]):
        assert torch.allclose(columns["path"], route, atol=1e-4)
    assert columns["path"].abs().min() > 1e-3
    assert path.nodes.tolist() == [3, 3, 3]


def test_the_sum_misses_the_margin_if_any_map_is_left_out(
    rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = tiny("llama")
    shared = random_adapter(subject, rng, ("down_proj",), size=0.2).updates
    adapters = [replace(random_adapter(subject, rng, ("q_proj", "o_proj"), size=0.2), shared=shared) for _ in ITEMS]
    path, prior, delivered = measured(subject, adapters)
    assert path.closed.all()
    parts = part_stacks(subject, adapters)
    most = int(path.nodes.max())
    rules = [rule for rule in margin_path.nested_rules() if len(rule.nodes) <= most]
    monkeypatch.setattr(margin_path, "nested_rules", lambda: rules)
    seen: list[bool] = []
    for part, name in path.sites:
        sites = {p: update for p, update in parts[part].sites.items() if p != name}
        without = read_margin_path(subject, prior, {**parts, part: Stack(sites, len(ITEMS))}, delivered)
        assert isinstance(without, MarginPath)
        assert not without.closed.all(), f"{part} {name} may be left out unseen"
        seen.append(bool((without.gap > 0.01 * delivered.margins.adapter.abs()).any()))
        still_open = ~without.closed
        assert without.push[still_open].isnan().all()
    assert all(seen), "the margin alone shows each of them"


def test_the_two_parts_are_together_what_one_update_of_both_is(rng: torch.Generator) -> None:
    subject = tiny("llama")
    apart = with_parts(subject, rng, "llama")

    def whole(adapter: Adapter) -> Adapter:
        pairs = {p: [u for u in (adapter.updates.get(p), adapter.shared.get(p)) if u] for p in adapter.paths}
        return Adapter(
            adapter.name,
            {
                p: LowRank(torch.cat([u.A for u in us]), torch.cat([u.scale * u.B for u in us], 1), 1.0)
                for p, us in pairs.items()
            },
        )

    split, _, delivered = measured(subject, apart)
    joined, _, _ = measured(subject, [whole(adapter) for adapter in apart])
    assert {part for part, _ in split.sites} == {"document", "shared"}
    assert {part for part, _ in joined.sites} == {"document"}
    for name, values in split.by_layer(3).items():
        assert torch.allclose(values, joined.by_layer(3)[name], atol=1e-3), name
    own = torch.tensor([part == "document" for part, _ in split.sites])
    assert (split.push - split.pull)[0, ~own].abs().max() > 0.01
    assert torch.equal((split.push - split.pull)[2, ~own], torch.zeros(int((~own).sum()))), "it has no shared part"
    pushes, pulls = split.push.sum(1), split.pull.sum(1)
    assert torch.allclose(pushes, delivered.margins.push, atol=0.02)
    assert torch.allclose(pulls, delivered.margins.pull, atol=0.02)


def test_a_map_without_gradient_leaves_the_item_open_and_a_model_without_is_refused(rng: torch.Generator) -> None:
    subject = tiny("llama")
    adapters = with_parts(subject, rng, "llama")
    places = [locate(subject, item) for item in ITEMS]
    prior = read_prior(subject, ITEMS, places)
    delivered = read_adapted(subject, prior, stack(subject, adapters), torch.ones(len(ITEMS), 3))
    parts = part_stacks(subject, adapters)
    block = subject.blocks[1]
    forward = block.forward
    block.forward = torch.no_grad()(forward)
    cut = read_margin_path(subject, prior, parts, delivered)
    assert isinstance(cut, MarginPath)
    assert not cut.closed.any()
    assert cut.nodes.min() > 48, "all nodes were tried first"
    assert cut.push.isnan().all()
    block.forward = forward
    last = subject.blocks[2]
    last.forward = torch.no_grad()(last.forward)
    reason = read_margin_path(subject, prior, parts, delivered)
    assert isinstance(reason, str)
    assert "no gradient" in reason


def test_stacked_experts_and_routers_are_refused_in_words() -> None:
    subject = tiny("llama")
    adapters = [random_adapter(subject, torch.Generator().manual_seed(0), ("down_proj",)) for _ in ITEMS]
    prior = read_prior(subject, ITEMS, [locate(subject, item) for item in ITEMS])
    delivered = read_adapted(subject, prior, stack(subject, adapters), torch.ones(len(ITEMS), 3))
    parts = part_stacks(subject, adapters)
    router = object.__new__(ParameterUpdates)  # what it updates is not looked at
    parts["document"] = Stack({**parts["document"].sites, "model.layers.0.mlp.gate.weight": router}, len(ITEMS))
    assert read_margin_path(subject, prior, parts, delivered) == STACKED
