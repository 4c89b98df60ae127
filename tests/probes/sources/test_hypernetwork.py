"""The organism's hypernetwork as a source: the toolkit's own route to its figures against the organism's, and faults."""

from __future__ import annotations

import pandas as pd
import pytest

from override_gap.margins.items.files import read_items
from override_gap.margins.items.item import documents_of
from override_gap.probes.errors import AdapterError
from override_gap.probes.organism.load import load
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject
from tests.conftest import tiny


def test_the_toolkit_measures_what_the_organism_recorded(tmp_path) -> None:
    """Two routes: probes through the bridge with hooks, and the organism's own evaluation when it was trained."""
    organism, subject = load(), open_subject("organism", device="cpu")
    items = read_items(organism.folder / "items.jsonl")
    plan = Plan(policies="as-delivered", probes=("margins",), batch_size=128)
    run(plan, subject, open_source("hypernetwork", subject), items, tmp_path / "run")
    readings = pd.read_parquet(tmp_path / "run" / "readings")
    delivered = readings[readings.condition == "as-delivered"]
    assert (delivered.status == "ok").all()
    figures = organism.recipe["figures"]
    for split in ("conflict", "novel", "combination", "retention"):
        ours = delivered[delivered.split == split].success_top1.mean()
        assert ours == pytest.approx(figures[split], abs=0.011), split
    conflicts = delivered[delivered.split == "conflict"]
    assert conflicts.prior_margin.mean() == pytest.approx(figures["prior_margin"][0], abs=0.05)
    assert conflicts.adapter_margin.mean() == pytest.approx(figures["adapter_margin"][0], abs=0.05)
    assert conflicts.prior_logprob.rank().corr(conflicts.frequency.rank()) > 0.8


def test_a_planted_fault_changes_the_adapters_and_the_identity() -> None:
    subject = open_subject("organism", device="cpu")
    documents = documents_of(read_items(load().folder / "items.jsonl"))[:4]
    intact, faulty = (open_source(spec, subject) for spec in ("hypernetwork", "hypernetwork:fault=wrong-content"))
    assert intact.settings != faulty.settings
    before, after = intact.encode(documents), faulty.encode(documents)
    assert all(a.hash() != b.hash() for a, b in zip(before, after, strict=True))
    assert sorted(a.norm() for a in before) == pytest.approx(sorted(b.norm() for b in after))


@pytest.mark.parametrize(
    ("spec", "message"), [("hypernetwork:fault=wrong-contents", "did you mean"), ("hypernetwork:falt=x", "need fault=")]
)
def test_unknown_faults_are_refused_with_a_suggestion(spec: str, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        open_source(spec, open_subject("organism", device="cpu"))


def test_a_subject_without_a_hypernetwork_is_refused() -> None:
    with pytest.raises(AdapterError, match="ships no hypernetwork"):
        open_source("hypernetwork", tiny("llama"))
