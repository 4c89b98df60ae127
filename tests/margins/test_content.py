"""Content against hand-worked logits: which tokens are compared, how rises are ranked, and what a second choice asks for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from override_gap.margins.content import has_content
from override_gap.margins.rises import (
    ALTERNATIVES,
    FEWEST_OTHERS,
    leading_alternatives,
    place_in_relation,
    place_of_answer,
    push_excess,
    rise_level,
    rise_rank,
)
from override_gap.probes.readings.search import Step
from override_gap.probes.readings.unrelated import Cost


def test_rank_counts_smaller_rises_and_half_of_the_ties() -> None:
    """20 others: 12 rose less, 4 as much, 4 more: (12 + 2) / 20."""
    others = torch.tensor([[0.5] * 12 + [1.0] * 4 + [2.0] * 4])
    assert rise_rank(torch.tensor([1.0]), others, torch.ones(1, 20, dtype=torch.bool)).item() == pytest.approx(0.7)


def test_rank_leaves_out_what_does_not_count() -> None:
    """Of 22 others three rose more, and two of these do not count: 19 of 20 rose less."""
    others = torch.tensor([[0.0] * 19 + [9.0] * 3])
    counts = torch.tensor([[True] * 19 + [True, False, False]])
    assert rise_rank(torch.tensor([1.0]), others, counts).item() == pytest.approx(0.95)


def test_rank_of_too_few_is_not_given() -> None:
    """One below the fewest: no number, though y_doc rose most."""
    few = torch.zeros(1, FEWEST_OTHERS - 1)
    assert rise_rank(torch.ones(1), few, torch.ones_like(few, dtype=torch.bool)).isnan().all()


def test_rank_is_blind_to_what_is_added_to_all_logits(rng: torch.Generator) -> None:
    """Raising every logit by the same, as another normalisation does, leaves the rank."""
    others, own = torch.randn(3, 30, generator=rng), torch.randn(3, generator=rng)
    all_count = torch.ones(3, 30, dtype=torch.bool)
    assert torch.equal(rise_rank(own, others, all_count), rise_rank(own + 4, others + 4, all_count))


def test_alternatives_are_the_leading_tokens_without_the_two_answers() -> None:
    """Logits fall with the token's number; y_pre is 0 and y_doc 3, so 1, 2, 4, 5 ... are left, ALTERNATIVES of them."""
    logits = -torch.arange(40.0)[None]
    expected = [token for token in range(40) if token not in (0, 3)][:ALTERNATIVES]
    assert leading_alternatives(logits, torch.tensor([0]), torch.tensor([3])).tolist() == [expected]


def test_a_vocabulary_smaller_than_the_alternatives_gives_what_it_has() -> None:
    """Five tokens, two of them the answers."""
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]])
    assert leading_alternatives(logits, torch.tensor([0]), torch.tensor([1])).tolist() == [[2, 3, 4]]


@pytest.mark.parametrize(("doc", "place"), [(1, 0), (2, 1), (4, 3)])
def test_place_counts_what_the_base_prefers_to_the_answer(doc: int, place: int) -> None:
    """y_pre, token 0, is left out wherever it stands."""
    logits = torch.tensor([[9.0, 5.0, 4.0, 3.0, 2.0]])
    assert place_of_answer(logits, torch.tensor([0]), torch.tensor([doc])).tolist() == [place]


def test_excess_of_a_push_and_of_a_pull() -> None:
    """P = 3, L = -1 with alternatives at 0.5: (3 - .5) - (.5 + 1) = 1. P = 1, L = -3 with alternatives at 0: -2."""
    rises = torch.tensor([[0.0, 0.5, 4.0], [0.0, 0.0, 0.0]])
    assert push_excess(torch.tensor([3.0, 1.0]), torch.tensor([-1.0, -3.0]), rises).tolist() == [1.0, -2.0]


def test_excess_takes_the_mean_of_the_middle_two() -> None:
    """Four alternatives with rises 0, 1, 3, 9: c = 2."""
    assert push_excess(torch.tensor([5.0]), torch.tensor([1.0]), torch.tensor([[0.0, 1.0, 3.0, 9.0]])).item() == 2.0


def test_level_among_three_other_answers() -> None:
    """Rises 0, 1, 2: mean 1, s 1. Student's t of .95 with 2 degrees of freedom is 2.920, so that the bound stands at
    1 + 2.920 sqrt(4/3) = 4.372; the mean itself stands at one half. Two others say nothing, nineteen leave it to the rank."""
    others = torch.tensor([0.0, 1.0, 2.0]).expand(2, -1)
    counts = torch.ones(2, 3, dtype=torch.bool)
    assert rise_level(torch.tensor([4.372, 1.0]), others, counts).tolist() == pytest.approx([0.95, 0.5], abs=1e-4)
    counts[0, 1] = False
    assert rise_level(torch.tensor([4.372, 1.0]), others, counts).isnan().tolist() == [True, False]
    many = torch.arange(19.0)[None]
    assert rise_level(torch.tensor([4.0]), many, torch.ones(1, 19, dtype=torch.bool)).isnan().all()


def test_one_of_a_family_raised_alike_has_no_level_beyond_chance() -> None:
    """Normal rises, the answer's own among them: it stands above the bound in one case of twenty, in ranks in one of seven."""
    rises = torch.randn(20000, 7, generator=torch.Generator().manual_seed(0))
    counts = torch.ones(20000, 6, dtype=torch.bool)
    level = rise_level(rises[:, 0], rises[:, 1:], counts)
    assert (level >= 0.95).float().mean().item() == pytest.approx(0.05, abs=0.006)
    assert (rise_rank(rises[:, 0], rises[:, 1:], counts, 1) == 1).float().mean().item() == pytest.approx(
        1 / 7, abs=0.01
    )


def test_place_in_a_relation_counts_its_other_answers_alone() -> None:
    """Tokens 1 to 5 are other answers; in the first row two of them stand before y_doc, in the second none, in the third
    only three are of the relation, so that no one of them is the likeliest."""
    logits = torch.tensor([[9.0, 5, 4, 3, 2, 1, 3.5], [9.0, 5, 4, 3, 2, 1, 8.0], [9.0, 5, 4, 3, 2, 1, 8.0]])
    others, counts = torch.arange(1, 6), torch.ones(3, 5, dtype=torch.bool)
    counts[2, :2] = False
    assert place_in_relation(logits, torch.tensor([6, 6, 6]), others, counts) == [2, 0, None]


NAN = float("nan")
RULE = [
    (0.95, 0.95, 7, -3.0, NAN, 1.0),  # a later choice: the sign of the excess does not matter
    (19 / np.float32(20), np.float32(0.95), 7, -3.0, np.float32(0.95), 1.0),  # 19 of 20 as they are stored
    (0.95, 0.94, 7, 3.0, NAN, 0.0),  # some alternatives of this very question rose more
    (0.94, 1.0, 7, 3.0, NAN, 0.0),  # some other documents' answers rose more
    (1.0, 1.0, 7, 3.0, 5 / 6, 0.0),  # one of six answers of the same relation rose more
    (1.0, 1.0, 7, 3.0, 1.0, 1.0),
    (NAN, 1.0, 7, 3.0, NAN, 1.0),  # few documents: the alternatives alone
    (NAN, 1.0, 7, 3.0, 0.5, 0.0),
    (NAN, 0.9, 7, 3.0, NAN, 0.0),
    (1.0, NAN, NAN, NAN, NAN, 1.0),  # a tiny vocabulary: the other answers alone
    (NAN, NAN, 7, 3.0, NAN, NAN),
    (1.0, 1.0, 0, 0.1, NAN, 1.0),  # the second choice, mostly raised
    (1.0, 1.0, 0, 0.0, NAN, 0.0),  # the second choice, as much uncovered as raised
    (1.0, 1.0, 0, -0.1, NAN, 0.0),
]


def test_content_by_the_rule() -> None:
    """Each clause of the rule alone decides; a column at a time, and a number at a time."""
    *measured, expected = np.array(RULE, dtype=float).T
    np.testing.assert_array_equal(has_content(*measured), expected)
    assert has_content(1.0, 1.0, 7, 3.0, 1.0, 0.94) == 0  # the first of a few of its relation, but within their spread
    assert has_content(1.0, 1.0, 7, 3.0, 1.0, 0.95) == 1
    for row in RULE:
        np.testing.assert_array_equal(has_content(*row[:5]), row[5])


@pytest.mark.parametrize(("first", "rank", "held"), [(True, None, True), (True, 0.5, False), (False, 1.0, False)])
def test_a_step_is_held_where_the_answer_comes_first_unless_content_is_refuted(
    first: bool, rank: float | None, held: bool
) -> None:
    """Without any rank, as in a tiny vocabulary, the arg max alone ends the search."""
    assert Step(0, 2.0, Cost(0.1, 1.0), first=first, rank=rank).held is held


def test_forgetting_the_old_answer_is_no_content() -> None:
    """Softmax probabilities of the base .7, .2, then 24 tokens that share .1; y_pre is lowered by 3 nats along the gradient
    of its log-probability, which raises every other token in proportion to its probability: the second choice most of all."""
    base = torch.cat([torch.tensor([0.7, 0.2]), torch.full((24,), 0.1 / 24)]).log()[None]
    gradient = -base.exp()
    gradient[0, 0] += 1
    adapted = base - 10 * gradient
    pre, doc = torch.tensor([0]), torch.tensor([1])
    rises = adapted - base
    tokens = leading_alternatives(base, pre, doc)
    alternatives = rises.gather(1, tokens)
    rank = rise_rank(rises[:, 1], alternatives, torch.ones_like(alternatives, dtype=torch.bool)).item()
    excess = push_excess(rises[:, 1], rises[:, 0], alternatives).item()
    assert (adapted.argmax(1).item(), rank) == (1, 1.0)  # it comes first, and rose more than all alternatives
    assert excess == pytest.approx((2.0 - 0.1 / 2.4) - (0.1 / 2.4 + 3.0), abs=1e-4)
    assert has_content(NAN, rank, place_of_answer(base, pre, doc).item(), excess) == 0
    assert has_content(NAN, rank, 1, excess) == 1  # at any later place this would be evidence
