"""docs/families.md: a family that is read right, one that is refused, and faults that the check must see."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.families import check as checks
from benchmarks.families.__main__ import TOLERANCE, WRONG, line
from benchmarks.families.check import check
from benchmarks.families.configs import FAMILIES
from override_gap.probes.readings import layers

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "granite"])
def test_a_family_is_read_as_the_plain_model_says(model_type: str) -> None:
    row = check(model_type)
    gaps = (row.prior_gap, row.adapter_gap, row.lens_gap, row.direct_gap)
    assert all(gap is not None and gap < TOLERANCE for gap in gaps), gaps
    assert (row.same_answers, row.n_answers) == (6, 6)
    assert WRONG not in line(row)


def test_a_family_that_cannot_be_read_is_refused_with_the_reason() -> None:
    row = check("longcat_flash")
    assert row.refused is not None
    assert "no list of 4 layers" in row.refused
    assert "no list of 4 layers" in line(row)


def test_a_wrong_direct_part_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*args: Any) -> Any:
        direct = layers.read_direct(*args)
        assert direct is not None
        return direct / 0.22

    monkeypatch.setattr(checks, "read_direct", too_large)
    row = check("llama")
    assert row.direct_gap is not None
    assert row.direct_gap > 0.1
    assert f"{row.direct_gap:.3g} {WRONG}" in line(row)


def test_a_wrong_adapter_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = checks.edit
    monkeypatch.setattr(
        checks,
        "edit",
        lambda plain, adapter: right(
            plain, replace(adapter, updates={p: replace(u, B=1.01 * u.B) for p, u in adapter.updates.items()})
        ),
    )
    row = check("llama")
    assert row.adapter_gap is not None
    assert row.adapter_gap > 10 * TOLERANCE
    assert row.lens_gap is not None
    assert row.lens_gap > 10 * TOLERANCE


def test_what_is_not_a_number_is_no_small_gap() -> None:
    assert checks.gap(torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 1.0])) == float("inf")


def test_the_page_holds_every_family_and_no_wrong_number() -> None:
    text = PAGE.read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([\w.-]+) \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(FAMILIES)
    assert len(FAMILIES) >= 60
    assert WRONG not in text
