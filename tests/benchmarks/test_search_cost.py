"""Rows and tokens that the benchmark of the search counts, against those of a batch whose size is known."""

from __future__ import annotations

import pytest
import torch

from benchmarks.bench.rows.search_cost import counting
from override_gap.margins.items.files import read_items
from override_gap.probes.readings import adapted
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.sources.hypernetwork import organism_of
from override_gap.probes.subject.forward import ResumePoint
from override_gap.probes.subject.load import open_subject


def test_a_pass_counts_its_rows_and_their_tokens_without_padding() -> None:
    subject = open_subject("organism")
    items = sorted(read_items(organism_of(subject).folder / "items.jsonl"), key=lambda item: len(item.question))
    chosen = [items[0], items[len(items) // 2], items[-1]]
    places = [locate(subject, item) for item in chosen]
    lengths = [len(place.fed) for place in places]
    assert len(set(lengths)) > 1, "the batch is padded"
    before = adapted.forward
    with counting() as count:
        prior = read_prior(subject, chosen, places, keep_blocks=True)
        assert count == {"rows": 3, "tokens": sum(lengths)}
        assert prior.block_outputs is not None
        point = ResumePoint(prior.block_outputs, subject.n_layers // 2, None)
        state = adapted.forward(subject, prior.batch, prior.batch.at[:, None], resume=point)
    assert count["rows"] == pytest.approx(4.5), "half of the layers were run again"
    assert count["tokens"] == pytest.approx(1.5 * sum(lengths))
    assert torch.allclose(state.final[:, 0], prior.hidden, atol=1e-5)
    assert adapted.forward is before
