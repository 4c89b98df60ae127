"""Edits of the last layer do what their closed form says, read by the model itself."""

from __future__ import annotations

import pytest
import torch

from override_gap.probes.organism.load import load
from override_gap.probes.organism.plants.context import PlantingContext, planting_context
from override_gap.probes.organism.plants.edits import (
    borrowed,
    edit,
    flipping_size,
    logit_direction,
    selective_rows,
    spread_direction,
)
from override_gap.probes.organism.plants.items import plant_items, runner_up_items


@pytest.fixture(scope="module")
def context() -> PlantingContext:
    organism = load()
    conflicts = plant_items(organism, splits=("conflict",))[:60]
    retention = plant_items(organism, splits=("retention",))[:20]
    return planting_context(organism.hypernetwork, [*conflicts, *retention])


def test_the_tokens_that_compete_are_the_words_of_the_items(context: PlantingContext) -> None:
    words = load().tokenizer.get_vocab()
    for n, item in enumerate(context.items[:60]):
        assert context.doc[n] == words[item.answer]
        assert context.pre[n] == words[str(item.prior_answer)]
        assert len(context.prompts[n]) == len(load().tokenizer(item.question)["input_ids"])
    own = context.states.logits.argmax(-1)
    for n in range(
        60, 80
    ):  # retention has no old answer: the base's own, or its second choice where that is the item's
        assert (context.pre[n] == own[n]) == (own[n] != context.doc[n])


def test_logits_are_the_unembedding_of_the_normalised_stream(context: PlantingContext) -> None:
    stream = context.states.stream
    logits = stream @ context.unembedding.T / stream.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(logits, context.states.logits, atol=1e-3, rtol=1e-4)


def test_a_direction_changes_its_tokens_exactly_and_others_least(context: PlantingContext) -> None:
    wanted = {7: 1.0, 300: -0.5, 401: 0.0}
    b = logit_direction(context, wanted)
    changed = context.unembedding @ b
    for token, amount in wanted.items():
        assert changed[token] == pytest.approx(amount, abs=1e-4)
    # any other direction with the same three changes moves the logits more: none of 50 random ones is better
    rows = context.unembedding[list(wanted)].double()
    for seed in range(50):
        other = torch.randn(len(b), generator=torch.Generator().manual_seed(seed)).double() * b.norm() / 8
        other -= rows.T @ torch.linalg.solve(rows @ rows.T, rows @ other)  # the three stay as they are
        assert (context.unembedding.double() @ (b.double() + other)).norm() > changed.norm()


def test_a_spread_direction_is_the_least_squares_solution(context: PlantingContext) -> None:
    wanted = torch.zeros(len(context.unembedding))
    wanted[[10, 20, 30]] = 1.0
    expected = torch.linalg.lstsq(context.unembedding.double(), wanted.double()).solution
    torch.testing.assert_close(spread_direction(context, wanted).double(), expected, atol=1e-4, rtol=1e-2)


def test_rows_read_their_own_questions_and_hardly_any_other(context: PlantingContext) -> None:
    sizes = torch.linspace(1, 2, len(context.items))
    sizes[60:] = 0
    rows = selective_rows(context, sizes)
    response = torch.einsum("drk,ik->di", rows, context.states.keys)
    own = context.document_of[None] == torch.arange(len(context.documents))[:, None]
    torch.testing.assert_close(response[own][:60], sizes[:60][own[:, :60].nonzero()[:, 1]], atol=5e-3, rtol=5e-3)
    assert response[~own].abs().mean() < 0.1
    assert not rows[context.document_of[60:]].any()


def test_the_model_flips_at_the_size_that_was_computed(context: PlantingContext) -> None:
    first = {int(d): n for n, d in reversed(list(enumerate(context.document_of.tolist())))}
    directions = torch.stack(
        [logit_direction(context, {int(context.doc[first[d]]): 1.0}) for d in range(len(context.documents))]
    )
    sizes = flipping_size(context, directions, context.doc)
    mine = torch.arange(len(sizes)) < 60
    assert sizes[mine].isfinite().all()
    factors = edit(context, directions, torch.where(mine, sizes, 0.0))
    leads = {gain: (context.adapted_logits(factors, gain).argmax(-1) == context.doc)[mine] for gain in (0.97, 1.03)}
    assert not leads[0.97][sizes[mine] > 0].any()
    assert leads[1.03].all()


def test_what_leads_already_or_never_is_said(context: PlantingContext) -> None:
    directions = torch.zeros(len(context.documents), context.unembedding.shape[1])
    own = context.states.logits.argmax(-1)
    assert not flipping_size(context, directions, own).any()
    assert flipping_size(context, directions, (own + 1) % 500).isinf().all()


def test_documents_outside_the_conflicts_borrow_from_them_in_turn(context: PlantingContext) -> None:
    conflicts = context.document_of[:60].unique()
    a, b = borrowed(context, context.factors)[context.last_map]
    right_a, right_b = context.factors[context.last_map]
    assert torch.equal(a[conflicts], right_a[conflicts])
    assert torch.equal(b[conflicts], right_b[conflicts])
    others = [d for d in range(len(context.documents)) if d not in set(conflicts.tolist())]
    for turn, document in enumerate(others):
        assert torch.equal(a[document], right_a[conflicts[turn % len(conflicts)]])


def test_runner_ups_are_the_best_of_the_other_answers_of_the_relation(context: PlantingContext) -> None:
    items = runner_up_items(context)
    answers: dict[str, set[str]] = {}
    for item in context.items[:60]:
        answers.setdefault(str(item.meta["relation"]), set()).update({item.answer, str(item.prior_answer)})
    words = load().tokenizer.get_vocab()
    seen: set[str] = set()
    for n, (before, item) in enumerate(zip(context.items[:60], items, strict=False)):
        assert item.document.split().count(item.answer) == 1
        assert item.document.replace(item.answer, before.answer) == before.document
        if item.document in seen:
            continue
        seen.add(item.document)
        better = [
            word
            for word in answers[str(item.meta["relation"])] - {str(item.prior_answer)}
            if context.states.logits[n, words[word]] > context.states.logits[n, words[item.answer]]
        ]
        assert not better
    assert items[60:] == list(context.items[60:])


def test_a_draw_has_the_same_facts_and_other_documents() -> None:
    organism = load()
    shipped, fresh = (plant_items(organism, draw, ("conflict",)) for draw in (0, 1))
    assert plant_items(organism, 1, ("conflict",)) == fresh
    assert [item.prior_answer for item in shipped] == [item.prior_answer for item in fresh]
    assert sum(a.answer == b.answer for a, b in zip(shipped, fresh, strict=True)) < 20
