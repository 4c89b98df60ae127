"""Batched hooks against PEFT's own forward, one adapter at a time, and the laws of the gain."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import Dense, LowRank
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.peft_folder import read_adapter
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.model import Subject
from tests.conftest import random_adapter, tiny
from tests.families import build, down, many

IDS = torch.tensor([[3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14], [15, 16, 17, 18, 19, 20]])


def logits(subject: Subject) -> torch.Tensor:
    with torch.no_grad():
        return subject.model(input_ids=IDS).logits


def gains(subject: Subject, value: float = 1.0) -> torch.Tensor:
    return torch.full((len(IDS), subject.n_layers), value)


def test_batched_hooks_match_peft_one_at_a_time(
    subject: Subject, family: str, rng: torch.Generator, tmp_path: Path
) -> None:
    adapters = [random_adapter(subject, rng, many(family)) for _ in IDS]
    with attached(subject, stack(subject, adapters), gains(subject)):
        ours = logits(subject)
    base = logits(subject)
    for n, adapter in enumerate(adapters):
        write_adapter(adapter, tmp_path / str(n))
        model, _ = build(family)
        theirs = PeftModel.from_pretrained(model, tmp_path / str(n))
        with torch.no_grad():
            wanted = theirs(input_ids=IDS[n : n + 1]).logits[0]
        assert (wanted - base[n]).abs().max() > 0.01, "the adapter must matter for this test to mean anything"
        assert (ours[n] - wanted).abs().max() < 1e-4


def test_gain_zero_is_the_base_to_the_last_bit(subject: Subject, family: str, rng: torch.Generator) -> None:
    base = logits(subject)
    adapters = [random_adapter(subject, rng, many(family)) for _ in IDS]
    with attached(subject, stack(subject, adapters), gains(subject, 0.0)):
        assert torch.equal(logits(subject), base)


def test_no_trace_after_an_error(subject: Subject, family: str, rng: torch.Generator) -> None:
    base = logits(subject)
    stacked = stack(subject, [random_adapter(subject, rng, many(family)) for _ in IDS])
    with pytest.raises(RuntimeError, match="in the block"), attached(subject, stacked, gains(subject)):
        raise RuntimeError("in the block")
    assert torch.equal(logits(subject), base)


def test_gains_are_per_example_and_per_layer(rng: torch.Generator) -> None:
    subject = tiny("llama")
    adapter = random_adapter(subject, rng, down("llama"))
    chosen = torch.ones(3, subject.n_layers)
    chosen[1, 2] = 2.5
    with attached(subject, stack(subject, [adapter] * 3), chosen):
        ours = logits(subject)
    scaled = {p: LowRank(u.A, u.B, u.scale * (2.5 if ".2." in p else 1.0)) for p, u in adapter.updates.items()}
    for n, updates in enumerate([adapter.updates, scaled, adapter.updates]):
        alone = Adapter("alone", {p: Dense(u.dense()) for p, u in updates.items()})
        with attached(subject, stack(subject, [alone] * 3), gains(subject)):
            assert (logits(subject)[n] - ours[n]).abs().max() < 1e-4


def test_document_and_shared_part_add_up(rng: torch.Generator) -> None:
    subject = tiny("llama")
    document, shared = (random_adapter(subject, rng, down("llama"), rank=r) for r in (2, 4))
    both = Adapter("both", document.updates, shared.updates)
    summed = {p: Dense(u.dense() + shared.updates[p].dense()) for p, u in document.updates.items()}
    with attached(subject, stack(subject, [both] * 3), gains(subject)):
        ours = logits(subject)
    with attached(subject, stack(subject, [Adapter("sum", summed)] * 3), gains(subject)):
        assert (logits(subject) - ours).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, u: (p.replace("down_proj", "down_prj"), u), "no linear map"),
        (lambda p, u: (p, LowRank(u.A, u.B * 0)), "changes nothing"),
        (lambda p, u: (p, LowRank(u.A[:, :-1], u.B)), "made for another model"),
        (lambda p, u: (p, LowRank(u.A, u.B * float("nan"))), "not finite"),
    ],
)
def test_an_adapter_that_cannot_act_is_an_error_that_names_it(rng: torch.Generator, change, message: str) -> None:
    subject = tiny("llama")
    whole = random_adapter(subject, rng, down("llama"))
    broken = Adapter("the-broken-one", dict(change(p, u) for p, u in whole.updates.items()))
    with pytest.raises(AdapterError, match=message) as caught:
        stack(subject, [broken])
    assert "the-broken-one" in str(caught.value)


def test_a_site_that_the_model_never_runs_is_an_error(rng: torch.Generator) -> None:
    subject = tiny("llama")
    adapter = random_adapter(subject, rng, down("llama"))
    path = next(iter(adapter.updates))
    site = subject.sites[path]
    idle = torch.nn.Linear(site.d_in, site.d_out)
    unconnected = Subject(
        **{
            **vars(subject),
            "sites": {**subject.sites, path: type(site)(path, site.d_in, site.d_out, idle)},
        }
    )
    with (
        pytest.raises(AdapterError, match="never run"),
        attached(unconnected, stack(unconnected, [adapter] * 3), gains(subject)),
    ):
        logits(unconnected)


def test_peft_folder_round_trip(rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny("llama")
    adapter = random_adapter(subject, rng, many("llama"))
    write_adapter(adapter, tmp_path / "a")
    back = read_adapter(tmp_path / "a", subject)
    for path, update in adapter.updates.items():
        assert torch.allclose(back.updates[path].dense(), update.dense(), atol=1e-6)
