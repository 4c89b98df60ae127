"""Planted edits do what their names say, by the closed form at the last layer and by the model's own probabilities."""

from __future__ import annotations

import torch

from benchmarks.content_edits import STRENGTH, Questions, fitted, written
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted
from tests.conftest import conflict, tiny


def questions() -> Questions:
    """Two documents, the first with two questions."""
    items = [
        conflict(0, document="alpha beta gamma delta ."),
        conflict(1, question="gamma beta alpha", document="alpha beta gamma delta ."),
        conflict(2, question="beta beta gamma"),
    ]
    return Questions.read(tiny("llama"), items, 0, [])


def logits_under(asked: Questions, adapters: dict, gain: float) -> torch.Tensor:  # type: ignore[type-arg]
    together = stack(asked.subject, [adapters[item.document] for item in asked.items])
    gains = torch.full((len(asked.items), asked.subject.n_layers), gain)
    logits = read_adapted(asked.subject, asked.prior, together, gains).logits
    assert logits is not None
    return logits


def test_a_direction_is_added_to_the_last_stream() -> None:
    """A document with one question: its logits are those of the final norm of x + gain v, |v| = STRENGTH |x|."""
    asked = questions()
    direction = torch.randn(3, asked.subject.d_model, generator=torch.Generator().manual_seed(1))
    found = logits_under(asked, written(asked, direction, asked.subject.n_layers - 1), 5.0)[2]
    assert asked.prior.residual is not None
    stream = asked.prior.residual[2, -1]
    moved = stream + 5 * STRENGTH * stream.norm() * direction[2] / direction[2].norm()
    weight = asked.subject.model.model.norm.weight
    eps = asked.subject.model.config.rms_norm_eps
    expected = (moved / (moved.square().mean() + eps).sqrt() * weight) @ asked.subject.unembedding.T
    torch.testing.assert_close(found, expected.detach(), atol=1e-4, rtol=1e-4)


def test_fitted_forgetting_lowers_the_old_answer_of_every_question() -> None:
    """Five steps on log P(y_pre): it falls at all three, among them both questions of one document."""
    asked = questions()
    pre = asked.prior.pre[:, None]

    def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return logits.log_softmax(-1).gather(1, pre[rows])[:, 0]

    adapters = fitted(asked, loss, "mlp.down_proj", range(asked.subject.n_layers), 5)
    before = asked.prior.logits.log_softmax(-1).gather(1, pre)
    after = logits_under(asked, adapters, 4.0).log_softmax(-1).gather(1, pre)
    assert bool((after < before).all())
    assert set(adapters) == set(asked.documents)


def test_the_answers_of_a_relation_are_those_of_all_conflicts_of_the_file() -> None:
    """One measured conflict of relation r: the candidates' answers of r are known to an edit, those of s are not."""
    subject = tiny("llama")
    asked = conflict(0, meta={"relation": "r"})
    others = [
        conflict(1, question=asked.question, answer="zeta", prior_answer="eta", meta={"relation": "r"}),
        conflict(2, question=asked.question, answer="theta", prior_answer="iota", meta={"relation": "s"}),
    ]
    before = len(subject.tokenize(asked.question))

    def begins(answer: str) -> int:
        return subject.tokenize(f"{asked.question} {answer}")[before]

    wanted = {begins(word) for word in (asked.answer, str(asked.prior_answer), "zeta", "eta")}
    mask = Questions.read(subject, [asked], 0, others).same_relation
    assert set(mask[0].nonzero()[:, 0].tolist()) == wanted
    assert not {begins("theta"), begins("iota")} & wanted
