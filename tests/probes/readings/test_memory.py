"""The automatic batch size: what fits in memory, with the same readings as any other size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from override_gap.probes.plan import Plan, PlanError
from override_gap.probes.readings.batching import MAX_ROWS, free_bytes, row_bytes, rows_that_fit
from override_gap.probes.subject.resume import recording
from tests.conftest import tiny
from tests.probes.run.test_loop import PLAN, audit


def test_rows_grow_with_memory_and_shrink_with_length() -> None:
    subject = tiny("llama")
    size = row_bytes(subject, 16)
    assert rows_that_fit(subject, 16, free=20 * size) == 10
    assert rows_that_fit(subject, 32, free=20 * size) < 10
    assert rows_that_fit(subject, 16, free=0) == 1
    assert rows_that_fit(subject, 16, free=10**15) == MAX_ROWS
    assert free_bytes(torch.device("cpu")) > 2**20


def test_the_size_of_a_row_includes_the_block_outputs_of_two_passes() -> None:
    subject = tiny("llama")
    with torch.no_grad(), recording(subject, 8) as outputs:
        subject.model.base_model(input_ids=torch.arange(3, 11)[None])
    stored = sum(output.numel() * output.element_size() for output in outputs)
    assert stored > 0
    assert row_bytes(subject, 8) > 2 * stored


def test_auto_gives_the_readings_of_any_size(tmp_path: Path) -> None:
    plan = replace(PLAN, probes=("margins",), policies="as-delivered,slb")
    tables = [audit(tmp_path / str(size), replace(plan, batch_size=size)) for size in ("auto", 2)]
    left, right = (table.set_index(["item", "condition"]).sort_index() for table in tables)
    columns = ["prior_margin", "push", "pull", "prior_logprob"]
    pd.testing.assert_frame_equal(left[columns].astype(float), right[columns].astype(float), atol=1e-4, rtol=1e-4)


def test_a_batch_size_of_zero_is_refused() -> None:
    with pytest.raises(PlanError, match="auto"):
        Plan(batch_size=0)
