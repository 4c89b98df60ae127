"""Adapters of a batch on maps that see flattened tokens, heads or some tokens only, against plain models with edited weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank, Vector
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.sources.rank_one import RankOne
from override_gap.probes.subject.model import Subject, wrap
from override_gap.probes.subject.row_layouts import rows_of
from tests.conftest import conflict
from tests.families import GROUPED, words

OPT = {"vocab_size": 64, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
MIXTURE = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
}
MODELS = {
    "opt": lambda: OPTForCausalLM(OPTConfig(**OPT, max_position_embeddings=64, word_embed_proj_dim=32, pad_token_id=0)),
    "qwen2-moe": lambda: Qwen2MoeForCausalLM(Qwen2MoeConfig(**GROUPED, **MIXTURE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**GROUPED, head_dim=8)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=8)),
    "stablelm": lambda: StableLmForCausalLM(StableLmConfig(**GROUPED)),
}
CHANGED = {
    "opt": (".fc1", ".fc2"),
    "qwen2-moe": (".shared_expert.down_proj", ".shared_expert.gate_proj", ".shared_expert_gate"),
    "qwen3": ("q_norm.weight", "k_norm.weight"),
    "gemma3": ("q_norm.weight", "k_norm.weight"),
    "stablelm": ("input_layernorm.weight", "input_layernorm.bias", ".down_proj"),
}
ITEMS = [
    conflict(0),
    conflict(1, "alpha beta", answer="red blue"),
    conflict(2, "mu nu xi omicron pi rho", prior="gamma"),
    conflict(3, "one two three"),
]


class Experts(nn.Module):
    """A mixture as a list of linear maps, each run on the tokens that are sent to it (as models with code of their own do)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weights, chosen = self.gate(flat).softmax(-1).topk(2)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            slot, token = torch.where((chosen == number).T)
            if len(token):
                out.index_add_(0, token, expert(flat[token]) * weights[token, slot, None])
        return out.reshape(x.shape)


def listed() -> LlamaForCausalLM:
    model = LlamaForCausalLM(LlamaConfig(**GROUPED))
    for layer in model.model.layers:
        layer.mlp = Experts(32, 4)
    return model


def built(make) -> tuple[object, Subject]:
    torch.manual_seed(0)
    plain = make().eval()
    plain.config.architectures = ["Listed" if make is listed else type(plain).__name__]
    with torch.no_grad():
        for weight in plain.parameters():
            weight.add_(torch.randn_like(weight) * (0.15 if weight.ndim > 1 else 0.3))
    return plain, wrap(copy.deepcopy(plain), words(), "tiny")


def random_updates(plain, paths, rng: torch.Generator) -> dict:
    updates = {}
    for path in paths:
        if path.endswith((".weight", ".bias")):
            size = plain.get_parameter(path).shape
            updates[path] = Vector(torch.randn(size, generator=rng) * 0.5)
        else:
            rows, columns = plain.get_submodule(path).weight.shape
            low, high = torch.randn(2, columns, generator=rng) * 0.3, torch.randn(rows, 2, generator=rng) * 0.3
            updates[path] = LowRank(low, high, 1.5)
    return updates


def alone(plain, subject: Subject, item, updates: dict) -> torch.Tensor:
    """Logits at the last fed token of a plain model with the updates in its weights, without padding."""
    edited = copy.deepcopy(plain)
    with torch.no_grad():
        for path, update in updates.items():
            if isinstance(update, Vector):
                edited.get_parameter(path).add_(update.delta)
            else:
                edited.get_submodule(path).weight.add_(update.scale * update.B @ update.A)
        place = locate(subject, item)
        return edited(input_ids=torch.tensor([place.fed[: place.at + 1]]), use_cache=False).logits[0, -1]


@pytest.mark.parametrize("family", sorted(MODELS))
def test_a_batch_of_adapters_is_each_alone_in_a_plain_model(family: str, rng: torch.Generator) -> None:
    plain, subject = built(MODELS[family])
    names = [*subject.sites, *(name for name, weight in plain.named_parameters() if weight.ndim == 1)]
    paths = [path for path in names if path.endswith(CHANGED[family])]
    assert len(paths) == len(CHANGED[family]) * 3
    adapters = [Adapter(f"a{n}", random_updates(plain, paths, rng)) for n in range(len(ITEMS))]
    prior = read_prior(subject, ITEMS, [locate(subject, item) for item in ITEMS])
    state = read_adapted(subject, prior, stack(subject, adapters), torch.ones(len(ITEMS), 3))
    assert state.logits is not None
    for n, item in enumerate(ITEMS):
        expected = alone(plain, subject, item, adapters[n].updates)
        assert torch.allclose(state.logits[n], expected, atol=2e-5)
        assert (state.logits[n] - prior.logits[n]).abs().max() > 1e-2


def test_a_routed_expert_is_measured_one_document_at_a_time(rng: torch.Generator) -> None:
    plain, subject = built(listed)
    paths = [path for path in subject.sites if ".experts." in path]
    assert set(subject.rows.of(paths).values()) == {"selection"}
    adapters = [Adapter(f"a{n}", random_updates(plain, paths, rng)) for n in range(len(ITEMS))]
    prior = read_prior(subject, ITEMS, [locate(subject, item) for item in ITEMS])
    with pytest.raises(AdapterError, match=r"some of the tokens.*--batch-size 1"):
        read_adapted(subject, prior, stack(subject, adapters), torch.ones(len(ITEMS), 3))
    for item, adapter in zip(ITEMS, adapters, strict=True):
        one = read_prior(subject, [item], [locate(subject, item)])
        state = read_adapted(subject, one, stack(subject, [adapter]), torch.ones(1, 3))
        assert state.logits is not None
        assert torch.allclose(state.logits[0], alone(plain, subject, item, adapter.updates), atol=2e-5)


def test_fitted_adapters_on_routed_experts_are_fitted_one_after_the_other() -> None:
    _, subject = built(listed)
    documents = [Document(f"alpha {word} red .") for word in ("beta", "gamma", "delta")]
    source = FittedAdapters(subject, modules=("experts.0", "experts.1", "experts.2", "experts.3"), steps=2)
    together = source.encode(documents)
    single = [source.encode([document])[0] for document in documents]
    for one, other in zip(together, single, strict=True):
        assert one.updates.keys() == other.updates.keys()
        assert all(torch.equal(one.updates[path].B, other.updates[path].B) for path in one.updates)


def test_rank_one_edits_a_map_that_sees_flattened_tokens() -> None:
    """W' k = v at the key of each document, whatever stands beside it in the batch."""
    _, subject = built(MODELS["opt"])
    source = RankOne(subject, layer=1, modules=("fc2",), steps=3, samples=4, length=8, position="surprise")
    documents = [Document("alpha beta gamma red ."), Document("one two three four five red blue .")]
    keys, changes = source.keys_and_changes(documents)
    for n, document in enumerate(documents):
        key, change = source.keys_and_changes([document])
        assert torch.allclose(keys[n], key[0], atol=1e-5)
        assert torch.allclose(changes[n], change[0], atol=1e-4)
    edited = source.encode(documents)[1].updates["model.decoder.layers.1.fc2"]
    assert torch.allclose(edited.dense() @ keys[1], changes[1], atol=1e-4)


def test_an_input_with_positions_in_front_is_not_taken_for_rows() -> None:
    x = torch.randn(3, 3, 8)
    assert rows_of(x, "rows", 3, 3) is x
    assert rows_of(x, "unknown", 3, 3) is None
    assert rows_of(torch.randn(5, 3, 8), "unknown", 3, 5) is None
    assert rows_of(torch.randn(3, 5, 8), "unknown", 3, 5) is not None
    flat = torch.randn(6, 8)
    assert torch.equal(rows_of(flat, "rows", 2, 3)[1], flat[3:])
    assert rows_of(flat[:5], "rows", 2, 3) is None
    assert rows_of(flat[:5], "selection", 2, 3) is None
    assert rows_of(flat[:5], "selection", 1, 6).shape == (1, 5, 8)
