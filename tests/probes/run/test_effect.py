"""Gains by the adapter's own effect: against plain forwards of a model whose weights carry the adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document, Item
from override_gap.probes.plan import Plan
from override_gap.probes.readings.effect import base_as_asked
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.run.loop import run
from override_gap.probes.run.policy_inputs import begins_answer
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny
from tests.families import build

ITEMS = [
    conflict(0, "alpha beta gamma", "delta", "epsilon"),
    conflict(1, "beta alpha gamma one two three four", "delta", "zeta"),
    conflict(2, "eta theta", "red green", "red blue"),  # both answers begin with red
    Item("n0", "p7", "novel", "mu nu xi .", "mu nu", "xi"),
    Item("r0", "p8", "retention", "alpha beta gamma delta .", "phi chi psi", "psi"),
    Item("m0", "p9", "combination", "mu nu xi .", "one", "two"),
]
PLAN = Plan("tiny", "fitted", "own", "as-delivered,effect-gated,uniform-1.5", ("margins",))


def source(subject: Subject) -> FittedAdapters:
    return FittedAdapters(subject, steps=12, lr=5e-2)


def measured(out: Path, family: str, **settings: object) -> pd.DataFrame:
    subject = tiny(family)
    run(replace(PLAN, **settings), subject, source(subject), ITEMS, out)  # type: ignore[arg-type]
    return pd.read_parquet(out / "readings").set_index(["item", "condition"])


def merged(family: str, adapter: Adapter, gain: float) -> torch.nn.Module:
    """A model of its own whose weights carry the update, times the gain."""
    model, _ = build(family)
    for path, update in adapter.updates.items():
        delta = gain * update.dense()
        weight = model.get_submodule(path).weight
        # GPT-2's maps store their weights the other way round
        weight.data += delta if family != "gpt2" else delta.T
    return model


def logits(model: torch.nn.Module, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0, -1]


@pytest.mark.parametrize(
    ("family", "settings"),
    [("llama", {}), ("gemma2", {}), ("gpt2", {"batch_size": 1}), ("llama", {"reference": True})],
    ids=["mixed", "mixed, capped", "one by one", "plain"],
)
def test_the_gain_is_that_of_an_effect_read_with_merged_weights(tmp_path: Path, family: str, settings: dict) -> None:
    subject, (base, _) = tiny(family), build(family)
    rows, effects = measured(tmp_path / "run", family, **settings), {}
    for item in ITEMS:
        adapter = source(subject).encode([Document(item.document)])[0]
        tokens = subject.tokenize(item.question)
        f, g = logits(base, tokens), logits(merged(family, adapter, 1.5), tokens)
        said = int(f.argmax())
        other = next(token for token in g.argsort(descending=True).tolist() if token != said)
        effects[item.id] = max(0.0, float((g - f)[other] - (g - f)[said]) / 1.5)
        row = rows.loc[(item.id, "effect-gated")]
        assert row.status == "ok"
        assert row.gain_mean == pytest.approx(1.5 * effects[item.id] / 7.5, rel=1e-3, abs=1e-5)
        # and the reading is that of the model with the adapter at this gain
        fed = [*tokens, *subject.tokenize("red")] if item.id == "c2" else tokens
        z = logits(merged(family, adapter, row.gain_mean), fed)
        assert row.top_token == subject.tokenizer.decode([int(z.argmax())])
        assert row.top_prob == pytest.approx(float(z.softmax(-1).max()), abs=1e-4)
    assert sum(effect > 0.05 for effect in effects.values()) >= 3, "effects of zero would test little"


@contextmanager
def counted(subject: Subject) -> Iterator[list[int]]:
    """How often the model is run."""
    runs: list[int] = []
    handle = subject.decoder.register_forward_hook(lambda *_: runs.append(1))
    yield runs
    handle.remove()


def test_the_probe_pass_is_that_of_the_uniform_gain_and_absent_where_no_policy_needs_it(tmp_path: Path) -> None:
    def passes(policies: str) -> int:
        subject = tiny("llama")
        items = [item for item in ITEMS if item.id != "c2"]  # an answer that shares a token takes a pass of its own
        with counted(subject) as runs:
            run(replace(PLAN, policies=policies), subject, source(subject), items, tmp_path / policies)
        return len(runs)

    delivered, uniform = passes("as-delivered"), passes("as-delivered,uniform-1.5")
    both, alone = passes("as-delivered,effect-gated,uniform-1.5"), passes("as-delivered,effect-gated")
    assert uniform > delivered, "a pass that is not counted proves nothing"
    assert alone == both == uniform + (uniform - delivered)


def test_a_question_with_which_an_answer_merges_is_read_as_it_is_asked() -> None:
    subject = tiny("llama")
    items = [replace(ITEMS[0], prior_answer=None, split="novel"), ITEMS[1]]
    places = [locate(subject, item) for item in items]
    # as if "gamma delta" were one token: what is read comes before gamma, what is asked ends with it
    alone = places[0].tokens
    places[0] = replace(places[0], tokens=alone[:2], start=2, at=1, n_question_tokens=2, unmerged=alone)
    prior = read_prior(subject, items, places)
    asked = base_as_asked(subject, prior, places)
    for n, place in enumerate(places):
        torch.testing.assert_close(asked[n], logits(build("llama")[0], list(place.asked)), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(asked[0], prior.logits[0], atol=0.1)
    vocab = subject.tokenizer.get_vocab()
    assert begins_answer(subject, items[0], places[0], vocab["delta"])
    assert not begins_answer(subject, items[0], places[0], vocab["epsilon"])
    assert begins_answer(subject, ITEMS[2], locate(subject, ITEMS[2]), vocab["red"]), "the token that both begin with"
