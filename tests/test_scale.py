"""docs/scale.md is what its command writes, and its simulation agrees with results by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scale import Assumed, Costs, page, simulate, unit_s, units

ROOT = Path(__file__).parent.parent


def test_the_page_is_what_the_command_writes() -> None:
    costs = Costs(**json.loads((ROOT / "docs/machines/costs.json").read_text()))
    assert (ROOT / "docs/scale.md").read_text() == page(costs, Assumed())


def test_without_losses_the_simulation_is_a_division() -> None:
    no_losses = replace(Assumed(), hours_between_losses=1e12, gpus=8)
    run = simulate(3.0, 8 * 50, no_losses)
    assert run.losses == 0
    assert run.wall_s == pytest.approx(no_losses.open_s + 50 * 3.0)
    assert simulate(3.0, 8 * 50 + 1, no_losses).wall_s == pytest.approx(no_losses.open_s + 51 * 3.0)


def test_a_lost_node_costs_half_a_unit_and_its_start() -> None:
    lossy = replace(Assumed(), hours_between_losses=2.0, gpus=16, open_s=60.0, notice_s=30.0)
    runs = [simulate(20.0, 60_000, lossy, seed) for seed in range(4)]
    losses = sum(run.losses for run in runs)
    each = sum(run.wasted_s - 16 * 60.0 for run in runs) / losses
    assert each == pytest.approx(60 + 30 + 20 / 2, rel=0.03)
    hours = sum(run.wall_s for run in runs) * 16 / 3600
    # a node that starts again cannot be lost in the meantime
    assert losses == pytest.approx((hours - losses * 90 / 3600) / 2.0, rel=0.06)


def test_a_units_seconds_and_count_by_hand() -> None:
    small = replace(
        Assumed(), parameters=1e9, document_tokens=10, question_tokens=5, conditions=2, questions_a_document=3,
        documents_a_unit=4, peak_flops=1e12, utilisation=0.5, questions=25, methods=2,
    )  # fmt: skip
    assert unit_s(small) == pytest.approx(2 * 1e9 * 4 * (10 + 3 * 2 * 5) / 0.5e12)
    assert units(small) == 2 * 3
