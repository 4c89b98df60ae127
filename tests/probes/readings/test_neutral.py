"""Neutral text against the model's own forward pass with the updates added to its weights: no hook, one text at a time."""

from __future__ import annotations

import copy

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.stream_change import angle, relative_length
from override_gap.probes.readings.neutral import NeutralTexts, read_neutral
from override_gap.probes.subject.model import Subject
from tests.conftest import random_adapter, tiny

PLACES = {"llama": ("self_attn.o_proj", "mlp.down_proj"), "gpt2": ("mlp.c_proj", "attn.c_attn")}


def merged(subject: Subject, adapter: Adapter) -> torch.nn.Module:
    """The model with an adapter's updates added to its weights."""
    model = copy.deepcopy(subject.model)
    for path, update in adapter.updates.items():
        weight = model.get_submodule(path).get_parameter("weight")
        delta = update.dense()
        with torch.no_grad():
            weight += delta if weight.shape == delta.shape and subject.sites[path].d_out == weight.shape[0] else delta.T
    return model


def run(model: torch.nn.Module, row: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Log-probabilities and streams of one text behind every token but the first, by the library's own outputs.

    The last of the library's hidden states is behind the final norm, so that it is left out.
    """
    with torch.no_grad():
        out = model(input_ids=row[None], output_hidden_states=True)
    return out.logits[0, 1:].double().log_softmax(-1), [h[0, 1:].double() for h in out.hidden_states[1:-1]]


@pytest.mark.parametrize("family", sorted(PLACES))
def test_every_number_is_that_of_the_merged_model(family: str, rng: torch.Generator) -> None:
    subject = tiny(family)
    ids = torch.randint(4, subject.unembedding.shape[0], (3, 9), generator=rng)
    adapters = [random_adapter(subject, rng, PLACES[family], size=0.1) for _ in range(2)]
    chosen = [[0, 2], [1]]
    texts = NeutralTexts.read(subject, ids)
    assert texts.words == tuple(subject.tokenizer.decode(row) for row in ids.tolist())
    for adapter, rows, change in zip(adapters, chosen, read_neutral(subject, texts, chosen, adapters), strict=True):
        changed = merged(subject, adapter)
        both = [(run(subject.model, ids[n]), run(changed, ids[n])) for n in rows]
        f, g = (torch.stack([pair[k][0] for pair in both]) for k in (0, 1))
        assert change.kl == pytest.approx((f.exp() * (f - g)).sum(-1).mean().item(), rel=1e-3)
        assert change.kept == pytest.approx((f.argmax(-1) == g.argmax(-1)).double().mean().item())
        rise = (g - f).mean((0, 1))
        assert torch.allclose(change.rise.double(), rise - rise.mean(), atol=1e-4)
        for layer in range(subject.n_layers - 1):
            base, other = (torch.stack([pair[k][1][layer] for pair in both]) for k in (0, 1))
            cosine = torch.nn.functional.cosine_similarity(base, other, dim=-1).clamp(-1, 1)
            assert change.angle[layer].item() == pytest.approx(cosine.acos().mean().item(), abs=1e-4)
            lengths = other.norm(dim=-1) / base.norm(dim=-1) - 1
            assert change.radial[layer].item() == pytest.approx(lengths.mean().item(), abs=1e-5)
        assert change.kl > 1e-4  # the adapter does something
    # no trace is left
    again, _ = run(subject.model, ids[0])
    assert torch.allclose(texts.log_probs[0].double(), again, atol=1e-5)


def test_length_and_angle_by_hand() -> None:
    base, adapted = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 6.0], [2.0, 2.0]])
    assert relative_length(base, adapted).tolist() == pytest.approx([1.0, 1.0])
    assert angle(base, adapted).tolist() == pytest.approx([torch.pi / 2, 0.0], abs=1e-6)
    small = torch.tensor([1.0, 1e-4])
    assert angle(torch.tensor([1.0, 0.0]), small).item() == pytest.approx(1e-4, rel=1e-4)
    assert angle(small, -small).item() == pytest.approx(torch.pi)
