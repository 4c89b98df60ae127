"""Parity in float32, bfloat16 and float16: a sound model passes in each, and a head that is read wrongly in none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from override_gap.margins.attribution import FinalNorm
from override_gap.probes.errors import SubjectError
from override_gap.probes.readings.adapted import Adapted, read_base
from override_gap.probes.readings.layers import attribution_gap, attribution_tolerance, read_layers
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.subject.model import Subject, wrap
from override_gap.probes.subject.parity import disagreement, logit_rounding
from tests.conftest import conflict
from tests.families import WORDS, build

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ITEMS = [conflict(n, " ".join(WORDS[3 + n : 6 + 2 * n])) for n in range(6)]


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return DTYPES[request.param]


def in_format(family: str, dtype: torch.dtype) -> Subject:
    model, tokenizer = build(family)
    return wrap(model.to(dtype), tokenizer, family)


def closure(subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    """The attribution gaps of the base's readings, and what is allowed."""
    prior = read_prior(subject, ITEMS, [locate(subject, item) for item in ITEMS], layers=True)
    state: Adapted = read_base(prior, subject)
    gaps = attribution_gap(subject, prior, state, read_layers(subject, prior, state))
    return gaps, attribution_tolerance(subject, prior, state)


def test_a_sound_model_passes_in_every_format(family: str, dtype: torch.dtype) -> None:
    subject = in_format(family, dtype)
    assert subject.parity_fault() is None
    gaps, allowed = closure(subject)
    assert (gaps <= allowed).all()
    largest = subject.reference.abs().max().item()
    assert subject.parity_tolerance() < (1.1e-3 if dtype == torch.float32 else 6 * torch.finfo(dtype).eps * largest)


@pytest.mark.parametrize(
    ("family", "fault"),
    [
        ("gemma2", {"cap": None}),
        ("gemma2", {"cap": 2.1}),
        ("llama", {"logit_scale": 1.02}),
        ("llama", {"cap": 8.0}),
    ],
    ids=["cap missed", "another cap", "scale", "cap that is none"],
)
def test_a_head_that_is_read_wrongly_is_seen_in_every_format(
    family: str, fault: dict[str, Any], dtype: torch.dtype
) -> None:
    """In bfloat16 a scale of 1.02 is five roundings of a logit; a cap of 8 bends logits of 2 by one part in 50."""
    subject = in_format(family, dtype)
    assert replace(subject, **fault).parity_fault() is not None


@pytest.mark.parametrize("part", ["norm", "bias", "last block", "one weight"])
def test_a_model_that_changes_is_seen_in_every_format(part: str, dtype: torch.dtype) -> None:
    subject = in_format("llama", dtype)
    assert subject.how_changed(weights=False) is None
    model = subject.model
    with torch.no_grad():
        if part == "norm":
            model.model.norm.weight += 0.05
        elif part == "bias":
            model.lm_head.bias = torch.nn.Parameter(torch.full((64,), 0.2, dtype=dtype))
        elif part == "last block":
            model.model.layers[-1].mlp.down_proj.weight *= 1.1
        else:
            model.lm_head.weight[5] += 0.05
    assert "differ from before" in str(subject.how_changed(weights=False))


def _wrong_norm(norm: FinalNorm) -> FinalNorm:
    return replace(norm, weight=norm.weight + 0.2)


def _other_statistics(norm: FinalNorm) -> FinalNorm:
    return replace(norm, centred=not norm.centred)


@pytest.mark.parametrize("change", [_wrong_norm, _other_statistics])
def test_a_wrong_final_norm_misses_the_margin_in_every_format(
    change: Callable[[FinalNorm], FinalNorm], dtype: torch.dtype
) -> None:
    subject = in_format("llama", dtype)
    assert subject.norm is not None
    gaps, allowed = closure(replace(subject, norm=change(subject.norm)))
    assert (gaps > allowed).float().mean() > 0.8


def test_a_stream_read_at_the_wrong_block_misses_the_margin_in_every_format(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """A hook on the block before the last, in its place."""
    subject = in_format("llama", dtype)
    blocks = subject.blocks
    monkeypatch.setattr(Subject, "blocks", property(lambda _: (blocks[0], blocks[1], blocks[1])))
    gaps, allowed = closure(subject)
    assert (gaps > allowed).all()


def test_logits_that_are_not_finite_are_named_with_their_format() -> None:
    for name, advice in (("float16", "use --dtype bfloat16 or float32"), ("float32", "no margin can be read")):
        model, tokenizer = build("llama")
        with torch.no_grad():
            model.model.norm.weight.fill_(3e4 if name == "float16" else 1e38)
            model.lm_head.weight.fill_(3.0)
        with pytest.raises(SubjectError, match=f"not finite in {name}[;,] .*{advice}"):
            wrap(model.to(DTYPES[name]), tokenizer, "hot")


def test_rounding_of_a_plain_head_is_within_its_bound_and_mostly_far_below() -> None:
    """Against PyTorch's own rounding of a product in bfloat16 and float16."""
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(20, 300, generator=generator), torch.randn(5000, 300, generator=generator)
    for dtype in (torch.bfloat16, torch.float16):
        h, w = hidden.to(dtype), weight.to(dtype)
        own, ours = (h @ w.T).float(), h.float() @ w.float().T
        rounding = logit_rounding(own, dtype, scaled=False, is_capped=False)
        assert disagreement(ours, own, rounding) is None
        ratio = (ours - own).abs() / rounding
        assert ratio.median() < 0.15
        assert disagreement(ours * (1 + 4 * torch.finfo(dtype).eps), own, rounding) is not None
