"""The hypernetwork for SmolLM2 on a tiny random model: its batches, updates, loss and training."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div

from override_gap.probes.smollm2.hypernetwork import SmolLM2Hypernetwork, applied, document_activations
from override_gap.probes.smollm2.statements import DocumentSampler, TrainingDocument
from override_gap.probes.smollm2.training import (
    TrainingRecipe,
    divergence,
    draw_batch,
    learning_rate_factor,
    new_hypernetwork,
    train_steps,
)
from override_gap.probes.smollm2.training_data import document_batch, run_lower_layers, run_upper_layers
from tests.families import build

DOCUMENTS = [
    TrainingDocument(
        "alpha beta gamma delta .", (("alpha beta gamma", "delta epsilon"),), ("one two", "red green blue one")
    ),
    TrainingDocument("red green blue one two three .", (("red green", "blue"),), ("tau", "alpha beta")),
]
RECIPE = TrainingRecipe(steps=4, documents=3, rank=2, width=24, first_layer=1, warmup=2, seed=3)


@pytest.fixture(scope="module")
def hypernetwork() -> SmolLM2Hypernetwork:
    model, tokenizer = build("llama")
    model.set_attn_implementation("eager")
    return new_hypernetwork(model.requires_grad_(False), tokenizer, RECIPE)


def test_packed_questions_are_answered_as_if_alone(hypernetwork: SmolLM2Hypernetwork) -> None:
    base, tokenizer = hypernetwork.base, hypernetwork.tokenizer
    batch = document_batch(tokenizer, DOCUMENTS)
    packed = run_upper_layers(base, batch, run_lower_layers(base, batch, 1), 1)
    questions = [
        (q, a) for document in DOCUMENTS for q, a in [*document.answered, *((q, "") for q in document.retained)]
    ]
    alone, answers = [], []
    for question, answer in questions:
        prompt, tokens = tokenizer(question)["input_ids"], tokenizer(answer)["input_ids"] if answer else []
        logits = base(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0].log_softmax(-1)
        alone += [logits[len(prompt) - 1 + n] for n in range(max(1, len(tokens)))]
        answers += tokens or [-1]
    assert batch.answer.tolist() == answers
    assert (packed - torch.stack(alone)).abs().max() < 1e-4


def test_an_applied_update_equals_an_edited_weight(hypernetwork: SmolLM2Hypernetwork) -> None:
    ids = [hypernetwork.tokenizer(document.text)["input_ids"] for document in DOCUMENTS]
    factors = hypernetwork.factors(ids)
    questions = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
    before = hypernetwork.base(input_ids=questions).logits
    with applied(hypernetwork.base, factors, torch.tensor([[0], [1]]).expand(2, 4)):
        adapted = hypernetwork.base(input_ids=questions).logits
    for n in range(2):
        edited = deepcopy(hypernetwork.base)
        for path, (a, b) in factors.items():
            edited.get_submodule(path).weight.data += b[n] @ a[n]
        expected = edited(input_ids=questions[n : n + 1]).logits[0]
        assert (expected - before[n]).abs().max() > 1e-3
        assert (adapted[n] - expected).abs().max() < 1e-4
    assert torch.equal(hypernetwork.base(input_ids=questions).logits, before)


def test_a_documents_factors_do_not_depend_on_the_batch(hypernetwork: SmolLM2Hypernetwork) -> None:
    alone = hypernetwork.encode([DOCUMENTS[0].text])
    batched = hypernetwork.encode([DOCUMENTS[0].text, DOCUMENTS[1].text])
    for path, factors in alone.items():
        for single, in_batch in zip(factors, batched[path], strict=True):
            assert torch.allclose(single[0], in_batch[0], atol=1e-5)
            assert not torch.allclose(in_batch[0], in_batch[1], atol=1e-3)


def test_an_update_does_not_act_on_a_texts_first_token(hypernetwork: SmolLM2Hypernetwork) -> None:
    """The mean activation at first tokens, as measured for the sink, excites no row of A."""
    shape = hypernetwork.network.shape
    sampled = [DocumentSampler((), ()).sample(np.random.default_rng([RECIPE.seed, n]), 1, 1) for n in range(48)]
    ids = [hypernetwork.tokenizer(document.text)["input_ids"] for document in sampled]
    sink = document_activations(hypernetwork.base, shape, ids).mlp[:, :, 0].mean(1)
    for (a, _), activation in zip(hypernetwork.encode([DOCUMENTS[0].text]).values(), sink, strict=True):
        assert (a[0] @ activation).abs().max() < 1e-4 * a[0].norm(dim=-1).max() * activation.norm()


def test_the_loss_is_the_divergence_from_its_target(hypernetwork: SmolLM2Hypernetwork, rng: torch.Generator) -> None:
    """Against torch's own KL; where the document answers they differ by the target's entropy alone."""
    batch = document_batch(hypernetwork.tokenizer, DOCUMENTS)
    base, adapted = (torch.randn(len(batch.answer), 64, generator=rng).log_softmax(-1) for _ in range(2))
    losses = divergence(adapted, base, batch, 0.9)
    for n, answer in enumerate(batch.answer.tolist()):
        target = base[n].exp()
        if answer >= 0:
            target = 0.1 * target + 0.9 * torch.eye(64)[answer]
        expected = kl_div(adapted[n], target, reduction="sum")
        entropy = -(target * target.log()).sum() if answer >= 0 else 0.0
        assert losses[n].item() == pytest.approx((expected + entropy).item(), abs=1e-4)
    retained = batch.answer < 0
    assert divergence(base, base, batch, 0.9)[retained].abs().max() < 1e-5


def test_the_learning_rate_rises_stays_and_falls() -> None:
    recipe = TrainingRecipe(steps=400, warmup=10, level=50, cooling=0.25)
    rates = [learning_rate_factor(step, recipe) for step in range(400)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:51] == [1.0] * 41
    assert rates[200] == pytest.approx(0.5)
    assert rates[350] == pytest.approx(0.5 * (50 / 350) ** 0.5)
    assert 0 < rates[-1] < 0.02
    longer = replace(recipe, steps=800)
    assert [learning_rate_factor(step, longer) for step in range(300)] == rates[:300]


def test_training_fits_two_documents(hypernetwork: SmolLM2Hypernetwork) -> None:
    """Sixty steps on one batch: the answers become likely, run_layers a document's update alone."""
    trained = SmolLM2Hypernetwork(hypernetwork.base, hypernetwork.tokenizer, deepcopy(hypernetwork.network))
    recipe = replace(RECIPE, steps=60, learning_rate=5e-3)

    class TwoDocuments(DocumentSampler):
        def sample(self, rng: np.random.Generator, answered: int, retained: int) -> TrainingDocument:
            return DOCUMENTS[int(rng.integers(2))]

    figures = [step_figures for _, step_figures in train_steps(trained, TwoDocuments((), ()), recipe)]
    assert figures[-1]["answer loss"] < 0.5 * figures[0]["answer loss"]
    assert figures[-1]["accuracy"] == 1.0


def test_resumed_training_equals_uninterrupted(hypernetwork: SmolLM2Hypernetwork, tmp_path) -> None:
    def network_after(*stops: int | None) -> dict[str, torch.Tensor]:
        folder = tmp_path / str(stops)
        for stop in stops:
            trained = new_hypernetwork(hypernetwork.base, hypernetwork.tokenizer, RECIPE)
            steps = [
                step for step, _ in train_steps(trained, DocumentSampler((), ()), RECIPE, folder, every=50, stop=stop)
            ]
        assert steps[-1] == RECIPE.steps - 1
        return trained.network.state_dict()

    whole, resumed = network_after(None), network_after(1, 3, None)
    untrained = new_hypernetwork(hypernetwork.base, hypernetwork.tokenizer, RECIPE).network.state_dict()
    assert any(not torch.equal(whole[name], untrained[name]) for name in whole)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_recipes_checkpoint_is_refused(hypernetwork: SmolLM2Hypernetwork, tmp_path) -> None:
    list(train_steps(hypernetwork, DocumentSampler((), ()), replace(RECIPE, steps=1), tmp_path))
    with pytest.raises(ValueError, match="another recipe"):
        next(train_steps(hypernetwork, DocumentSampler((), ()), replace(RECIPE, keep=0.5), tmp_path))


def test_a_step_draws_the_same_batch_each_time(hypernetwork: SmolLM2Hypernetwork) -> None:
    first, again, other = (
        draw_batch(DocumentSampler((), ()), hypernetwork.tokenizer, RECIPE, step) for step in (1, 1, 2)
    )
    assert first.documents == again.documents
    assert torch.equal(first.questions.ids, again.questions.ids)
    assert first.documents != other.documents
