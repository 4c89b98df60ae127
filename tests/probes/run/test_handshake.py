"""Adapters spoilt in a known way are each caught, by the check that should; sound ones pass all."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document, ItemError
from override_gap.margins.updates import Dense, LowRank
from override_gap.probes.attach import stack as stacking
from override_gap.probes.run.checks import MEANING, HandshakeError
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny
from tests.families import build

ITEMS = [conflict(1), conflict(2, "zeta eta theta"), conflict(3, "iota kappa")]
SQUARE, WIDE = "model.layers.1.self_attn.o_proj", "model.layers.1.mlp.down_proj"


@dataclass
class Method:
    """A method with its own idea of the adapted model: weights edited in a copy, its own forward."""

    subject: Subject
    name: str = "method"
    settings: Any = None
    base_fingerprint: str | None = None
    path: str = SQUARE

    def delta(self, document: Document) -> torch.Tensor:
        site = self.subject.sites[self.path]
        draw = torch.Generator().manual_seed(sum(document.text.encode()))
        return torch.randn(site.d_out, site.d_in, generator=draw) * 0.3

    def encode(self, documents):
        return [Adapter(d.key, {self.path: Dense(self.delta(d))}) for d in documents]

    def native_logits(self, document: Document, text: str) -> torch.Tensor:
        model, _ = build("llama")
        changed = copy.deepcopy(model)
        with torch.no_grad():
            changed.get_parameter(f"{self.path}.weight").add_(self.delta(document))
            return changed(input_ids=torch.tensor([self.subject.tokenize(text)])).logits[0]


def spoilt(method: Method, change) -> Method:
    encode = method.encode
    method.encode = lambda documents: [  # type: ignore[method-assign]
        replace(a, updates={p: change(u) for p, u in a.updates.items()}) for a in encode(documents)
    ]
    return method


def failed(method: Method) -> list[str]:
    return [check.name for check in check_adapters(method.subject, method, ITEMS).failed]


@pytest.mark.parametrize("path", [SQUARE, WIDE])
def test_sound_adapters_pass_every_check(path: str) -> None:
    subject = tiny("llama")
    result = check_adapters(subject, Method(subject, path=path, base_fingerprint=subject.fingerprint), ITEMS)
    assert [check.name for check in result.checks if check.passed] == [name for name in MEANING if name != "tokens"]
    assert all(document > 0 and shared == 0 for document, shared in result.norms)
    result.require()


@pytest.mark.parametrize("factor", [8.0, 1 / 8])
def test_a_wrong_scale_is_caught(factor: float) -> None:
    method = spoilt(Method(tiny("llama")), lambda u: Dense(u.delta * factor))
    assert failed(method) == ["native"]


def test_a_transposed_square_weight_is_caught() -> None:
    assert failed(spoilt(Method(tiny("llama")), lambda u: Dense(u.delta.T))) == ["native"]


def test_a_transposed_weight_does_not_fit() -> None:
    assert failed(spoilt(Method(tiny("llama"), path=WIDE), lambda u: Dense(u.delta.T))) == ["fits"]


def test_adapters_that_are_zero_are_caught() -> None:
    assert failed(spoilt(Method(tiny("llama")), lambda u: Dense(u.delta * 0))) == ["fits"]


def test_adapters_too_small_to_act_are_caught() -> None:
    assert "effect" in failed(spoilt(Method(tiny("llama")), lambda u: Dense(u.delta * 1e-9)))


def test_adapters_of_another_base_are_caught() -> None:
    subject = tiny("llama")
    assert failed(Method(subject, base_fingerprint=tiny("mistral").fingerprint)) == ["base"]


def test_one_adapter_for_every_document_is_caught() -> None:
    same = LowRank(torch.ones(1, 32), torch.ones(32, 1))
    assert failed(spoilt(Method(tiny("llama")), lambda u: same)) == ["native", "documents"]


def test_an_update_that_overflows_is_not_absent_at_gain_zero() -> None:
    """Finite as a matrix, infinite once multiplied: 0 times that is no number, and gain 0 is not the base."""
    subject = tiny("llama")
    site = subject.sites[WIDE]
    huge = LowRank(torch.full((1, site.d_in), 3e38), torch.full((site.d_out, 1), 1e-38))
    method = spoilt(Method(subject, path=WIDE), lambda u: huge)
    method.native_logits = None  # type: ignore[assignment]
    assert "gain-zero" in failed(method)
    assert "fits" not in failed(method)


def test_an_attachment_that_forgets_the_gain_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = stacking.Matrices.__call__
    monkeypatch.setattr(stacking.Matrices, "__call__", lambda self, x, gain: honest(self, x, torch.ones_like(gain)))
    assert failed(Method(tiny("llama"))) == ["gain-zero"]


def test_an_attachment_that_exchanges_examples_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone is right, so that nothing but the comparison of batch and single can notice."""
    honest = stacking._batched_update
    monkeypatch.setattr(
        stacking,
        "_batched_update",
        lambda subject, site: honest(subject, replace(site, by_adapter=site.by_adapter[::-1], low_rank=None)),
    )
    assert failed(Method(tiny("llama"))) == ["batch"]


def test_a_model_whose_examples_see_each_other_is_caught() -> None:
    method = Method(tiny("llama"))
    method.native_logits = None  # type: ignore[assignment]
    assert failed(method) == []
    layer = method.subject.model.get_submodule(WIDE)
    layer.register_forward_hook(lambda _module, _args, out: out + out.mean(0, keepdim=True))
    assert failed(method) == ["batch"]


def test_the_error_names_the_check_and_its_numbers() -> None:
    method = spoilt(Method(tiny("llama")), lambda u: Dense(u.delta * 8))
    with pytest.raises(HandshakeError, match=r"handshake native failed: logits differ by [\d.]+ nats; need at most"):
        check_adapters(method.subject, method, ITEMS).require()


def test_what_was_not_checked_is_said() -> None:
    method = Method(tiny("llama"))
    method.native_logits = None  # type: ignore[assignment]
    result = check_adapters(method.subject, method, ITEMS)
    assert {c.name for c in result.checks if c.passed is None} == {"base", "native"}


def test_items_that_cannot_be_read_are_told_with_a_reason() -> None:
    """Words that the tokenizer does not know are one and the same token."""
    method = Method(tiny("llama"))
    strange = [replace(item, prior_answer="Qqy", answer="Zqx") for item in ITEMS]
    with pytest.raises(
        ItemError,
        match=r"none of the first 3 items .*; item c1: the tokenizer does not know these words",
    ):
        check_adapters(method.subject, method, strange)


def test_a_source_of_ones_own_that_refuses_the_first_document_is_checked_on_others() -> None:
    """A document too long for a user's own code is a row of errors in the audit; that it comes first ended the run."""
    subject = tiny("llama")

    class Refusing(FittedAdapters):
        def encode(self, documents):
            if any(document.text == items[0].document for document in documents):
                raise ValueError("this document is too long")
            return super().encode(documents)

    items = [conflict(n, f"{word} beta", "red", "blue") for n, word in enumerate(("alpha", "gamma", "delta"))]
    checked = check_adapters(subject, Refusing(subject, steps=2, lr=3e-2), items)
    [fits] = [check for check in checked.checks if check.name == "fits"]
    assert fits.passed, fits.says
    alone = check_adapters(subject, Refusing(subject, steps=2, lr=3e-2), items[:1])
    assert "too long" in alone.checks[-1].says
