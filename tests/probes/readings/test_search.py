"""What the search reads of the base's alternatives, against the model's own logits over the whole vocabulary."""

from __future__ import annotations

import pytest
import torch

from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.readings.search import Judge, OtherAnswers
from override_gap.probes.readings.unrelated import Cost
from tests.conftest import conflict, random_adapter, tiny


def test_alternatives_are_ranked_as_in_the_whole_vocabulary(rng: torch.Generator) -> None:
    """Ranks, excess and place of two of three rows, in their given order, by loops over full passes without and with adapters."""
    subject = tiny("llama")
    items = [conflict(n, question=f"alpha {word} gamma") for n, word in enumerate(("beta", "delta", "zeta"))]
    prior = read_prior(subject, items, [locate(subject, item) for item in items])
    adapters = stack(subject, [random_adapter(subject, rng, ("down_proj",)) for _ in items])
    none = torch.zeros(3, 0, dtype=torch.bool)
    judge = Judge(subject, prior, OtherAnswers(torch.zeros(0, dtype=torch.long), none, none))
    rows, gain = [2, 0], 1.5
    steps = judge.steps(lambda gains: read_adapted(subject, prior, adapters, gains), rows, gain, [Cost(0.1, 1.0)] * 2)
    after = read_adapted(subject, prior, adapters, torch.full((3, subject.n_layers), gain)).logits
    assert after is not None
    for step, row in zip(steps, rows, strict=True):
        base, rise = prior.logits[row], after[row] - prior.logits[row]
        pre, doc = int(prior.pre[row]), int(prior.doc[row])
        order = [token for token in base.argsort(descending=True).tolist() if token not in (pre, doc)][:20]
        top = int(after[row].argmax())
        compared = [token for token in order if token != top]
        below = sum(float(rise[token]) < float(rise[doc]) for token in compared)
        middle = sorted(float(rise[token]) for token in order)[9:11]
        assert step.rank is None
        assert step.rank_base == pytest.approx(below / len(compared))
        assert step.excess == pytest.approx(float(rise[doc] + rise[pre]) - sum(middle), abs=1e-4)
        assert step.place == sum(float(base[t]) > float(base[doc]) for t in range(len(base)) if t != pre)


def test_other_answers_are_ranked_without_the_one_that_leads(rng: torch.Generator) -> None:
    """All answers and those of the same relation, however few, by loops over full passes."""
    subject = tiny("llama")
    items = [conflict(n, question=f"alpha {word} gamma") for n, word in enumerate(("beta", "delta", "zeta"))]
    prior = read_prior(subject, items, [locate(subject, item) for item in items])
    adapters = stack(subject, [random_adapter(subject, rng, ("down_proj",)) for _ in items])
    after = read_adapted(subject, prior, adapters, torch.full((3, subject.n_layers), 1.5)).logits
    assert after is not None
    answers = [int(prior.pre[0]), int(prior.doc[0])]
    tops = after.argmax(1).tolist()
    tokens = torch.tensor(sorted({*tops, *range(3, 30)} - set(answers)))
    counts = torch.ones(3, len(tokens), dtype=torch.bool)
    same = torch.stack([tokens % 5 == 0, tokens == tops[1], tokens < 0])
    judge = Judge(subject, prior, OtherAnswers(tokens, counts, same))
    steps = judge.steps(lambda g: read_adapted(subject, prior, adapters, g), [0, 1, 2], 1.5, [Cost(0.1, 1.0)] * 3)
    for row, step in enumerate(steps):
        rise = after[row] - prior.logits[row]
        own = float(rise[int(prior.doc[row])])
        behind = [int(t) for t in tokens if int(t) != tops[row]]
        assert step.rank == pytest.approx(sum(float(rise[t]) < own for t in behind) / len(behind))
        alike = [t for t in behind if bool(same[row][tokens.tolist().index(t)])]
        expected = sum(float(rise[t]) < own for t in alike) / len(alike) if alike else None
        assert step.rank_relation == (None if expected is None else pytest.approx(expected))
    assert [step.rank_relation is None for step in steps] == [False, True, True]
    base, alike = prior.logits[0], [int(t) for t in tokens if int(t) % 5 == 0]
    assert len(alike) >= 4
    ahead = sum(float(base[t]) > float(base[int(prior.doc[0])]) for t in alike)
    assert [step.place_relation for step in steps] == [ahead, None, None]
