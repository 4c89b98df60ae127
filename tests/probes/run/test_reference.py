"""Whatever is shared between passes, the figures are those of one item, one condition and one adapter at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from override_gap.analyses.readings import RunFrame
from override_gap.analyses.summary import summarise
from override_gap.margins.adapter import Adapter
from override_gap.margins.condition_parser import parse_conditions
from override_gap.margins.items.item import Item, documents_of
from override_gap.margins.updates import LowRank
from override_gap.probes.readings import reuse as passes
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.unit import UnitReadings, measure
from override_gap.probes.subject.shared_prefix import SharedPrefix, can_share
from tests.conftest import conflict, random_adapter, tiny
from tests.families import DOWN
from tests.probes.run.test_loop import PLAN, audit

POLICIES = "as-delivered,uniform-2,slb,ca-slb,random-layers,margin-matched,relevance-gate,logit-fusion,in-context"
PROBES = frozenset({"margins", "layers", "causal", "critical"})
ITEMS = [
    conflict(0),
    conflict(1, "beta gamma delta zeta", "eta two three", "eta one four five"),
    conflict(3, "nu xi omicron pi rho sigma", "tau", "phi"),
    Item("r5", "p0", "retention", "alpha beta gamma delta .", "six seven", "eight"),
]
BEGINNING = " ".join("alpha beta gamma delta epsilon zeta eta theta".split() * 3)
TOLERANCE = 2e-4


def both(family: str, made: dict[str, Adapter], items: Sequence[Item] = ITEMS) -> tuple[UnitReadings, UnitReadings]:
    """The readings with everything shared, and those of one at a time."""
    subject = tiny(family)
    conditions = parse_conditions(POLICIES)
    fast = measure(MeasurementSetup(subject, conditions, PROBES, 32, 0), items, EncodedDocuments(made), frozenset())
    slow = MeasurementSetup(subject, conditions, PROBES, 1, 0, plain=True)
    return fast, measure(slow, items, EncodedDocuments(made), frozenset())


def adapters(family: str, rng: torch.Generator, first: int = 0) -> dict[str, Adapter]:
    """Random adapters of different ranks and sizes on the layers from `first` on."""
    subject, found = tiny(family), {}
    for n, document in enumerate(documents_of(ITEMS)):
        adapter = random_adapter(subject, rng, DOWN.get(family, ("down_proj",)), rank=1 + n % 3, size=0.15 + 0.05 * n)
        updates = {p: u for p, u in adapter.updates.items() if int(next(filter(str.isdigit, p.split(".")))) >= first}
        found[document.text] = Adapter(adapter.name, updates)
    return found


def row_differences(fast: list[dict], slow: list[dict], keys: list[str]) -> list[tuple]:
    """Where any column of any row differs, in any order of rows."""
    left, right = (pd.DataFrame(rows).set_index(keys).sort_index() for rows in (fast, slow))
    if list(left.index) != list(right.index) or set(left.columns) != set(right.columns):
        return [("rows or columns", len(left), len(right))]
    return [
        (name, a, b)
        for name in left.columns
        for a, b in zip(left[name], right[name], strict=True)
        if not (
            math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            if isinstance(a, float) and isinstance(b, float)
            else a == b
        )
        and not (pd.isna(a) and pd.isna(b))
    ]


def test_readings_are_those_of_one_at_a_time(family: str, rng: torch.Generator) -> None:
    fast, slow = both(family, adapters(family, rng, first=0 if family == "llama" else 1))
    assert row_differences(fast.readings, slow.readings, ["item", "condition"]) == []
    assert row_differences(fast.layers, slow.layers, ["item", "condition", "layer"]) == []


def test_behind_a_common_beginning_readings_are_those_of_one_at_a_time(
    family: str, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a chat template, which the base's pass runs once for all; `--reference` runs it for every question."""
    shared, real = [], SharedPrefix.of
    monkeypatch.setattr(SharedPrefix, "of", lambda *given: shared.append(real(*given)) or shared[-1])
    fourth = replace(ITEMS[0], id="c9", question="nu xi")
    items = [replace(item, question=f"{BEGINNING} {item.question}") for item in [*ITEMS, fourth]]
    fast, slow = both(family, adapters(family, rng), items)
    assert any(prefix is not None for prefix in shared) == can_share(tiny(family))
    assert row_differences(fast.readings, slow.readings, ["item", "condition"]) == []
    assert row_differences(fast.layers, slow.layers, ["item", "condition", "layer"]) == []


def test_the_summary_is_that_of_one_at_a_time(rng: torch.Generator) -> None:
    fast, slow = both("llama", adapters("llama", rng))
    manifest = {"conditions": [c.name for c in parse_conditions(POLICIES)]}
    left, right = (
        summarise(RunFrame(manifest, pd.DataFrame(found.readings), pd.DataFrame(found.layers)))
        for found in (fast, slow)
    )
    assert differences(left, right) == []


def differences(left: object, right: object, where: str = "") -> list[tuple]:
    """Where two summaries differ, number by number."""
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            return [(where, left.keys() ^ right.keys())]
        return [found for key in left for found in differences(left[key], right[key], f"{where}.{key}")]
    if isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            return [(where, len(left), len(right))]
        pairs = enumerate(zip(left, right, strict=True))
        return [found for n, (a, b) in pairs for found in differences(a, b, f"{where}[{n}]")]
    if isinstance(left, float) and isinstance(right, float):
        return [] if math.isclose(left, right, rel_tol=1e-3, abs_tol=1e-3) else [(where, left, right)]
    return [] if left == right else [(where, left, right)]


def test_shared_passes_run_fewer_layers_and_no_gains_twice(rng: torch.Generator, monkeypatch) -> None:
    subject, made = tiny("llama"), adapters("llama", rng, 1)
    ran: list[int] = []
    for n, block in enumerate(subject.blocks):
        block.mlp.register_forward_hook(lambda _m, _a, _o, n=n: ran.append(n))
    conditions = parse_conditions("as-delivered,uniform-2")
    calls = []
    real = passes.read_adapted
    monkeypatch.setattr(passes, "read_adapted", lambda *a, **k: calls.append(len(a[1].pre)) or real(*a, **k))
    setup = MeasurementSetup(subject, conditions, frozenset({"margins"}), 32, 0)
    measure(setup, ITEMS[:1], EncodedDocuments(made), frozenset())
    assert calls == [1, 1]
    # once more: the first time it is also measured, once per model, how its maps hold the rows of a batch
    ran.clear()
    measure(setup, ITEMS[:1], EncodedDocuments(made), frozenset())
    # the base runs layer 0; neither the delivered pass nor the one at gain 2 runs it again
    assert ran.count(0) == 1
    assert ran.count(2) == 3


def test_gain_two_is_the_adapter_of_twice_the_scale(rng: torch.Generator) -> None:
    made = adapters("llama", rng)
    doubled = {
        text: Adapter(
            a.name, {p: LowRank(u.A, u.B, 2 * u.scale) for p, u in a.updates.items() if isinstance(u, LowRank)}
        )
        for text, a in made.items()
    }
    subject = tiny("llama")
    conditions = parse_conditions("as-delivered,uniform-2")
    setup = MeasurementSetup(subject, conditions, frozenset({"margins"}), 32, 0)
    at_gain_two = [
        r for r in measure(setup, ITEMS, EncodedDocuments(made), frozenset()).readings if r["condition"] == "uniform-2"
    ]
    plain = [
        r
        for r in measure(setup, ITEMS, EncodedDocuments(doubled), frozenset()).readings
        if r["condition"] == "as-delivered"
    ]
    margins = ({r["item"]: r["adapter_margin"] for r in rows} for rows in (at_gain_two, plain))
    left, right = margins
    assert left == pytest.approx(right, abs=1e-4)


def test_a_run_by_reference_is_another_run(tmp_path: Path) -> None:
    plan = replace(PLAN, probes=("margins",), policies="as-delivered,slb")
    fast = audit(tmp_path / "fast", plan)
    slow = audit(tmp_path / "slow", replace(plan, reference=True))
    columns = ["prior_margin", "push", "pull", "net_margin", "prior_logprob", "top_prob"]
    left, right = (t.set_index(["item", "condition"]).sort_index()[columns].astype(float) for t in (fast, slow))
    assert (left - right).abs().max().max() < TOLERANCE
