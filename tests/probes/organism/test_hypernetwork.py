"""The organism's hypernetwork, its loss and its evaluation, against slower or independent computations."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import kstest, spearmanr
from torch.nn.functional import huber_loss, kl_div

from override_gap.probes.organism.base import BaseRecipe, new_base
from override_gap.probes.organism.evaluate import auc, spearman
from override_gap.probes.organism.hypernetwork import (
    OrganismHypernetwork,
    Perceiver,
    PerceiverShape,
    applied,
    document_states,
)
from override_gap.probes.organism.tokenizer import build_tokenizer
from override_gap.probes.organism.training import HypernetworkRecipe, draw_gains, question_losses
from override_gap.probes.organism.training_data import TrainingBatch
from override_gap.probes.organism.world import Size, World, build_world

WORLD = build_world(0, Size(entities=12, objects=4, lands=2, seen=40))
SHAPE = PerceiverShape(layers=2, d_model=16, d_ff=24, rank=3, width=16, blocks=1, heads=2)


@pytest.fixture
def hypernetwork() -> OrganismHypernetwork:
    torch.manual_seed(0)
    base = new_base(WORLD, BaseRecipe(layers=2, d_model=16, d_ff=24, heads=2)).eval().requires_grad_(False)
    perceiver = Perceiver(SHAPE).eval()
    torch.nn.init.normal_(perceiver.to_b)
    return OrganismHypernetwork(base, build_tokenizer(WORLD.vocabulary()), perceiver)


def documents(world: World) -> list[str]:
    e, o = world.entities, world.objects
    return [f"{e[0]} has the stone {o[1][0]} .", f"As for the tree we know {e[1]} took {o[2][1]} last year ."]


def test_an_applied_update_equals_an_edited_weight(hypernetwork: OrganismHypernetwork) -> None:
    factors = hypernetwork.encode(documents(WORLD))
    ids = torch.randint(4, 40, (6, 5))
    with applied(hypernetwork.base, factors, questions_per_document=3):
        together = hypernetwork.base(input_ids=ids).logits
    for document in range(2):
        edited = copy.deepcopy(hypernetwork.base)
        for path, (a, b) in factors.items():
            edited.get_submodule(path).weight += hypernetwork.scale * b[document] @ a[document]
        rows = slice(3 * document, 3 * document + 3)
        alone = edited(input_ids=ids[rows]).logits
        torch.testing.assert_close(together[rows], alone, atol=1e-4, rtol=1e-4)
        assert (alone - hypernetwork.base(input_ids=ids[rows]).logits).abs().max() > 0.1


def test_an_update_leaves_no_trace(hypernetwork: OrganismHypernetwork) -> None:
    ids = torch.randint(4, 40, (2, 5))
    before = hypernetwork.base(input_ids=ids).logits
    with (
        pytest.raises(KeyError),
        applied(hypernetwork.base, hypernetwork.encode(documents(WORLD)), questions_per_document=1),
    ):
        raise KeyError
    assert torch.equal(hypernetwork.base(input_ids=ids).logits, before)


def test_factors_have_the_shapes_of_the_updated_weights(hypernetwork: OrganismHypernetwork) -> None:
    factors = hypernetwork.encode(documents(WORLD) * 2, batch=3)
    assert list(factors) == [f"model.layers.{layer}.mlp.down_proj" for layer in range(2)]
    for path, (a, b) in factors.items():
        assert a.shape == (4, 3, 24)
        assert b.shape == (4, 16, 3)
        assert hypernetwork.base.get_submodule(path).weight.shape == (16, 24)


def test_a_documents_factors_do_not_depend_on_the_batch(hypernetwork: OrganismHypernetwork) -> None:
    short, long = documents(WORLD)
    batched = hypernetwork.encode([short, long])
    alone = hypernetwork.encode([short])
    for path in alone:
        for in_batch, single in zip(batched[path], alone[path], strict=True):
            torch.testing.assert_close(in_batch[:1], single, atol=1e-5, rtol=1e-4)


def test_document_states_are_the_models_activations(hypernetwork: OrganismHypernetwork) -> None:
    base, ids = hypernetwork.base, torch.randint(4, 40, (2, 6))
    states = document_states(base, ids, torch.ones_like(ids, dtype=torch.bool))
    hidden = base.model(input_ids=ids, output_hidden_states=True).hidden_states

    def unit(x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    for layer in range(2):
        torch.testing.assert_close(states[layer, ..., :16], unit(hidden[layer]), atol=1e-5, rtol=1e-5)
    mlp, norm = base.model.layers[1].mlp, base.model.layers[1].post_attention_layernorm
    attended = (
        hidden[1]
        + base.model.layers[1].self_attn(
            base.model.layers[1].input_layernorm(hidden[1]),
            position_embeddings=base.model.rotary_emb(hidden[1], torch.arange(6)[None]),
            attention_mask=torch.full((6, 6), float("-inf")).triu(1)[None, None],
        )[0]
    )
    mlp_input = norm(attended)
    activation = torch.nn.functional.silu(mlp.gate_proj(mlp_input)) * mlp.up_proj(mlp_input)
    torch.testing.assert_close(states[1, ..., 16:40], unit(activation), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(states[0, :, :-1, 40:], unit(hidden[0][:, 1:]), atol=1e-5, rtol=1e-5)
    assert not states[:, :, -1, 40:].any()


def test_the_loss_vanishes_where_the_log_odds_rise_and_nothing_else_moves() -> None:
    torch.manual_seed(0)
    base = torch.randn(2, 7).double().log_softmax(-1)
    raised = base.clone()
    raised[0, 4] += 3.0  # a constant on one logit raises its log-odds by that and leaves the others' shares alone
    unused = torch.zeros(2, 1, dtype=torch.long)
    batch = TrainingBatch(unused, unused, unused[:, 0], base, torch.tensor([4, -1]))
    torch.testing.assert_close(
        question_losses(raised.log_softmax(-1), batch, 3.0), torch.zeros(2).double(), atol=1e-9, rtol=0
    )
    assert question_losses(raised.log_softmax(-1), batch, 5.0)[0].item() == pytest.approx(
        2.0 - 0.5
    )  # Huber: |error| - 1/2
    assert question_losses(raised.log_softmax(-1), batch, 3.5)[0].item() == pytest.approx(0.5**2 / 2)


def test_the_loss_is_the_divergence_from_the_base_elsewhere() -> None:
    torch.manual_seed(0)
    base, adapted = torch.randn(2, 7).log_softmax(-1), torch.randn(2, 7).log_softmax(-1)
    unused = torch.zeros(2, 1, dtype=torch.long)
    batch = TrainingBatch(unused, unused, unused[:, 0], base, torch.tensor([4, -1]))
    answer_loss, retention_loss = question_losses(adapted, batch, 3.0)
    assert retention_loss == pytest.approx(kl_div(adapted[1], base[1].exp(), reduction="sum").item(), abs=1e-5)
    odds = [torch.logit(x[0, 4].exp()) for x in (base, adapted)]
    shares = [torch.cat([x[0, :4], x[0, 5:]]).log_softmax(-1) for x in (base, adapted)]
    error = huber_loss(odds[1], odds[0] + 3.0) + kl_div(shares[1], shares[0].exp(), reduction="sum")
    assert answer_loss == pytest.approx(error.item(), abs=1e-5)


def test_two_thirds_of_the_documents_are_trained_at_gain_1() -> None:
    gain = draw_gains(np.random.default_rng(0), HypernetworkRecipe(documents=300, loudest=2.5))
    assert (gain == 1).sum() == 200
    exponents = gain[gain > 1].log() / np.log(2.5)
    assert kstest(exponents.numpy(), "uniform").pvalue > 0.01


def test_spearman_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.integers(0, 9, (2, 50))
    assert spearman(x, x + noise) == pytest.approx(spearmanr(x, x + noise).statistic)


def test_auc_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    score, event = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a, b in product(score[event], score[~event])]
    assert auc(score, event) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc(score, np.ones(40, dtype=bool)))
