"""The hypernetwork of plain-language statements on a tiny random model: its lessons, updates, loss and training."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div

from override_gap.probes.smollm2.hypernetwork import SmolLM2Hypernetwork, applied, read
from override_gap.probes.smollm2.statements import Author, TrainingSheet
from override_gap.probes.smollm2.training import TrainingRecipe, divergence, draw, fresh, rate, teach
from override_gap.probes.smollm2.training_data import lower, sheet_tensors, upper
from tests.families import build

SHEETS = [
    TrainingSheet(
        "alpha beta gamma delta .", (("alpha beta gamma", "delta epsilon"),), ("one two", "red green blue one")
    ),
    TrainingSheet("red green blue one two three .", (("red green", "blue"),), ("tau", "alpha beta")),
]
RECIPE = TrainingRecipe(steps=4, documents=3, rank=2, width=24, first_layer=1, warmup=2, seed=3)


@pytest.fixture(scope="module")
def hypernetwork() -> SmolLM2Hypernetwork:
    model, tokenizer = build("llama")
    model.set_attn_implementation("eager")
    return fresh(model.requires_grad_(False), tokenizer, RECIPE)


def test_questions_side_by_side_are_answered_as_if_alone(hypernetwork: SmolLM2Hypernetwork) -> None:
    base, tokenizer = hypernetwork.base, hypernetwork.tokenizer
    lesson = sheet_tensors(tokenizer, SHEETS)
    together = upper(base, lesson, lower(base, lesson, 1), 1)
    asked = [(q, a) for sheet in SHEETS for q, a in [*sheet.taught, *((q, "") for q in sheet.kept)]]
    alone, answers = [], []
    for question, answer in asked:
        before, more = tokenizer(question)["input_ids"], tokenizer(answer)["input_ids"] if answer else []
        logits = base(input_ids=torch.tensor([[*before, *more]])).logits[0].log_softmax(-1)
        alone += [logits[len(before) - 1 + n] for n in range(max(1, len(more)))]
        answers += more or [-1]
    assert lesson.answer.tolist() == answers
    assert (together - torch.stack(alone)).abs().max() < 1e-4


def test_an_applied_update_equals_an_edited_weight(hypernetwork: SmolLM2Hypernetwork) -> None:
    documents = [sheet.document for sheet in SHEETS]
    factors = hypernetwork.factors([hypernetwork.tokenizer(document)["input_ids"] for document in documents])
    asked = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
    before = hypernetwork.base(input_ids=asked).logits
    with applied(hypernetwork.base, factors, torch.tensor([[0], [1]]).expand(2, 4)):
        found = hypernetwork.base(input_ids=asked).logits
    for n in range(2):
        edited = deepcopy(hypernetwork.base)
        for path, (a, b) in factors.items():
            edited.get_submodule(path).weight.data += b[n] @ a[n]
        wanted = edited(input_ids=asked[n : n + 1]).logits[0]
        assert (wanted - before[n]).abs().max() > 1e-3
        assert (found[n] - wanted).abs().max() < 1e-4
    assert torch.equal(hypernetwork.base(input_ids=asked).logits, before)


def test_a_document_is_encoded_the_same_beside_longer_ones(hypernetwork: SmolLM2Hypernetwork) -> None:
    alone = hypernetwork.encode([SHEETS[0].document])
    beside = hypernetwork.encode([SHEETS[0].document, SHEETS[1].document])
    for path, factors in alone.items():
        for mine, theirs in zip(factors, beside[path], strict=True):
            assert torch.allclose(mine[0], theirs[0], atol=1e-5)
            assert not torch.allclose(theirs[0], theirs[1], atol=1e-3)


def test_an_update_leaves_a_texts_first_token_alone(hypernetwork: SmolLM2Hypernetwork) -> None:
    """What the sink's activations were when they were measured excites no row of A."""
    shape = hypernetwork.network.shape
    sheets = [Author((), ()).sheet(np.random.default_rng([RECIPE.seed, n]), 1, 1) for n in range(48)]
    documents = [hypernetwork.tokenizer(sheet.document)["input_ids"] for sheet in sheets]
    sink = read(hypernetwork.base, shape, documents).activations[:, :, 0].mean(1)
    for (a, _), at in zip(hypernetwork.encode([SHEETS[0].document]).values(), sink, strict=True):
        assert (a[0] @ at).abs().max() < 1e-4 * a[0].norm(dim=-1).max() * at.norm()


def test_the_loss_is_the_divergence_from_its_target(hypernetwork: SmolLM2Hypernetwork, rng: torch.Generator) -> None:
    """Against torch's own KL; where an answer is taught they differ by the target's entropy alone."""
    lesson = sheet_tensors(hypernetwork.tokenizer, SHEETS)
    base, adapted = (torch.randn(len(lesson.answer), 64, generator=rng).log_softmax(-1) for _ in range(2))
    found = divergence(adapted, base, lesson, 0.9)
    for n, answer in enumerate(lesson.answer.tolist()):
        target = base[n].exp()
        if answer >= 0:
            target = 0.1 * target + 0.9 * torch.eye(64)[answer]
        wanted = kl_div(adapted[n], target, reduction="sum")
        entropy = -(target * target.log()).sum() if answer >= 0 else 0.0
        assert found[n].item() == pytest.approx((wanted + entropy).item(), abs=1e-4)
    kept = lesson.answer < 0
    assert divergence(base, base, lesson, 0.9)[kept].abs().max() < 1e-5


def test_the_learning_rate_rises_holds_and_falls() -> None:
    recipe = TrainingRecipe(steps=400, warmup=10, level=50, cooling=0.25)
    rates = [rate(step, recipe) for step in range(400)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:51] == [1.0] * 41
    assert rates[200] == pytest.approx(0.5)
    assert rates[350] == pytest.approx(0.5 * (50 / 350) ** 0.5)
    assert 0 < rates[-1] < 0.02
    longer = replace(recipe, steps=800)
    assert [rate(step, longer) for step in range(300)] == rates[:300]


def test_training_teaches_the_lesson(hypernetwork: SmolLM2Hypernetwork) -> None:
    """Sixty steps on one lesson: the answers become likely, through a document's update alone."""
    learner = SmolLM2Hypernetwork(hypernetwork.base, hypernetwork.tokenizer, deepcopy(hypernetwork.network))
    recipe = replace(RECIPE, steps=60, learning_rate=5e-3)

    class Same(Author):
        def sheet(self, rng: np.random.Generator, taught: int, kept: int) -> TrainingSheet:
            return SHEETS[int(rng.integers(2))]

    figures = [shown for _, shown in teach(learner, Same((), ()), recipe)]
    assert figures[-1]["learned"] < 0.5 * figures[0]["learned"]
    assert figures[-1]["right"] == 1.0


def test_resumed_training_equals_uninterrupted(hypernetwork: SmolLM2Hypernetwork, tmp_path) -> None:
    def network_after(*stops: int | None) -> dict[str, torch.Tensor]:
        folder = tmp_path / str(stops)
        for stop in stops:
            learner = fresh(hypernetwork.base, hypernetwork.tokenizer, RECIPE)
            steps = [step for step, _ in teach(learner, Author((), ()), RECIPE, folder, every=50, stop=stop)]
        assert steps[-1] == RECIPE.steps - 1
        return learner.network.state_dict()

    whole, resumed = network_after(None), network_after(1, 3, None)
    untrained = fresh(hypernetwork.base, hypernetwork.tokenizer, RECIPE).network.state_dict()
    assert any(not torch.equal(whole[name], untrained[name]) for name in whole)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_recipes_checkpoint_is_refused(hypernetwork: SmolLM2Hypernetwork, tmp_path) -> None:
    list(teach(hypernetwork, Author((), ()), replace(RECIPE, steps=1), tmp_path))
    with pytest.raises(ValueError, match="another recipe"):
        next(teach(hypernetwork, Author((), ()), replace(RECIPE, keep=0.5), tmp_path))


def test_a_step_draws_the_same_lesson_each_time(hypernetwork: SmolLM2Hypernetwork) -> None:
    first, again, other = (draw(Author((), ()), hypernetwork.tokenizer, RECIPE, step) for step in (1, 1, 2))
    assert first.documents == again.documents
    assert torch.equal(first.questions.ids, again.questions.ids)
    assert first.documents != other.documents
