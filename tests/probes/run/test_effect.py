"""Gains by the adapter's own effect: against plain forwards of a model whose weights carry the adapter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.items.item import Document, Item
from override_gap.margins.items.relevance import word_overlap
from override_gap.probes.attach.stack import stack
from override_gap.probes.plan import Plan
from override_gap.probes.readings.effect import base_as_asked
from override_gap.probes.readings.gain_path import layer_effects
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
EFFECT = "effect-gated-1.5-0.5"
PLAN = Plan("tiny", "fitted", "own", f"as-delivered,{EFFECT},overlap-scaled,uniform-1.5", ("margins",))


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
    rows, effects, bounded = measured(tmp_path / "run", family, **settings), {}, set()
    for item in ITEMS:
        adapter = source(subject).encode([Document(item.document)])[0]
        tokens = subject.tokenize(item.question)
        f, g = logits(base, tokens), logits(merged(family, adapter, 1.5), tokens)
        said = int(f.argmax())
        other = next(token for token in g.argsort(descending=True).tolist() if token != said)
        effects[item.id] = max(0.0, float((g - f)[other] - (g - f)[said]) / 1.5)
        row = rows.loc[(item.id, EFFECT)]
        assert row.status == "ok"
        overlap = word_overlap(item.document, item.question)
        assert rows.loc[(item.id, "overlap-scaled"), "gain_mean"] == pytest.approx(1.5 * overlap)
        effect, lead = effects[item.id], float(f[said] - f[other])
        wanted = 1.5 * math.sqrt(overlap * effect / 7.5)
        gain = min(wanted, (lead + 0.5) / effect, 3.0) if wanted > 0 else 0.0
        bounded.add(wanted > gain)
        assert row.gain_mean == pytest.approx(gain, rel=1e-3, abs=1e-5)
        # and the reading is that of the model with the adapter at this gain
        fed = [*tokens, *subject.tokenize("red")] if item.id == "c2" else tokens
        z = logits(merged(family, adapter, row.gain_mean), fed)
        assert row.top_token == subject.tokenizer.decode([int(z.argmax())])
        assert row.top_prob == pytest.approx(float(z.softmax(-1).max()), abs=1e-4)
    assert bounded == {True, False} or family != "llama", "both bounds are to be seen"
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
    assert alone == both > uniform


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


def test_effects_of_layers_are_those_of_finite_differences_along_the_path_of_gains() -> None:
    subject = tiny("llama")
    items = [item for item in ITEMS if item.id in ("c1", "c2")]  # of different length; the last shares a token
    places = [locate(subject, item) for item in items]
    encoded = [source(subject).encode([Document(item.document)])[0] for item in items]
    base = torch.stack([logits(build("llama")[0], list(place.asked)) for place in places])
    delivered = [logits(merged("llama", a, 1.0), list(p.asked)) for a, p in zip(encoded, places, strict=True)]
    found = layer_effects(subject, places, stack(subject, encoded), base, torch.stack(delivered), 16)
    assert found.shape == (2, 3)
    for n, (place, adapter) in enumerate(zip(places, encoded, strict=True)):
        said = int(base[n].argmax())
        other = next(t for t in delivered[n].argsort(descending=True).tolist() if t != said)

        model = build("llama")[0].double()
        weights = {path: model.get_submodule(path).weight for path in adapter.updates}
        plain = {path: weight.detach().clone() for path, weight in weights.items()}

        def difference(gains: list[float]) -> float:
            for path, update in adapter.updates.items():  # noqa: B023
                weights[path].data = plain[path] + gains[layer_of(path) or 0] * update.dense().double()  # noqa: B023
            z = logits(model, list(place.asked))  # noqa: B023 - called before the next item
            return float(z[other] - z[said])  # noqa: B023

        steps = 40
        for layer in range(3):
            total = 0.0
            for k in range(steps):  # midpoints of the path, central differences in one layer's gain
                at = (k + 0.5) / steps
                up, down = [at] * 3, [at] * 3
                up[layer], down[layer] = at + 1e-3, at - 1e-3
                total += (difference(up) - difference(down)) / 2e-3 / steps
            assert float(found[n, layer]) == pytest.approx(total, rel=0.01, abs=0.005)
        whole = difference([1.0] * 3) - difference([0.0] * 3)
        assert float(found[n].sum()) == pytest.approx(whole, rel=0.01, abs=0.005)
    assert found.abs().max() > 0.1, "effects of zero would test little"


def test_layers_whose_effects_do_not_add_up_are_not_given() -> None:
    subject = tiny("llama")
    places = [locate(subject, ITEMS[0])]
    adapters = stack(subject, source(subject).encode([Document(ITEMS[0].document)]))
    base = logits(build("llama")[0], list(places[0].asked))[None]
    wrong = base + torch.arange(base.shape[1])  # logits that no adapter of this stack gives
    assert layer_effects(subject, places, adapters, base, wrong).isnan().all()
